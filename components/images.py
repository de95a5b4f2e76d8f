"""The two images that components run in, by the names `make images` builds; `fairlead compile` can set others."""

import fairlead

LIGHT_IMAGE = f"fairlead-light:{fairlead.__version__}"
TORCH_IMAGE = f"fairlead-torch:{fairlead.__version__}"
