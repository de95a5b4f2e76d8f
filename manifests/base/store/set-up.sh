#!/bin/sh
# Make the buckets, the policies and the users. Run again it changes nothing but a rotated password.
# The image has a shell and coreutils beside mc: no grep, no sed.
set -eu
mc alias set store "$STORE_ENDPOINT" "$(cat /root-user/user)" "$(cat /root-user/password)" >/dev/null
mc mb --ignore-existing store/fairlead store/fairlead-backups
mc version enable store/fairlead-backups
# Backups are kept for 30 days.
case "$(mc ilm rule ls store/fairlead-backups 2>/dev/null || true)" in
  *Enabled*) ;;
  *) mc ilm rule add --expire-days 30 store/fairlead-backups ;;
esac
for name in pipelines serving backup; do
  mc admin policy create store "fairlead-$name" "/set-up/$name.json"
  mc admin user add store "$(cat "/users/$name/user")" "$(cat "/users/$name/password")"
  # It is an error to attach what is attached.
  case "$(mc admin user info store "$(cat "/users/$name/user")")" in
    *"fairlead-$name"*) ;;
    *) mc admin policy attach store "fairlead-$name" --user "$(cat "/users/$name/user")" ;;
  esac
done
