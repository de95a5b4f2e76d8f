"""The two images that components run in, as `make images` builds them (components/Dockerfile)."""

import fairlead

LIGHT_IMAGE = f"fairlead-light:{fairlead.__version__}"
TORCH_IMAGE = f"fairlead-torch:{fairlead.__version__}"
# The images' user, by number because Kubernetes' runAsNonRoot cannot check a name.
USER_ID = 10001
# FAIRLEAD_HOME in the images.
HOME = "/var/lib/fairlead"
