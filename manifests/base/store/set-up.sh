#!/bin/sh
# Make the buckets, the policies and the users. Run again it changes nothing but a rotated password.
set -eu
mc alias set store "$STORE_ENDPOINT" "$(cat /root-user/user)" "$(cat /root-user/password)" >/dev/null
mc mb --ignore-existing store/fairlead store/fairlead-backups
mc version enable store/fairlead-backups
# Backups are kept for 30 days; parts of uploads that nobody finished, for 2.
mc ilm rule ls store/fairlead-backups 2>/dev/null | grep -q Enabled || mc ilm rule add --expire-days 30 store/fairlead-backups
for name in pipelines serving backup; do
  mc admin policy create store "fairlead-$name" "/set-up/$name.json"
  mc admin user add store "$(cat "/users/$name/user")" "$(cat "/users/$name/password")"
  mc admin policy attach store "fairlead-$name" --user "$(cat "/users/$name/user")" || \
    mc admin user info store "$(cat "/users/$name/user")" | grep -q "fairlead-$name"
done
