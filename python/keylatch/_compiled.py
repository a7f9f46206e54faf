"""Which compiled half is used: that of the package keylatch-etcd, if it is installed, and the package's own otherwise."""

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec


def choose() -> None:
    """Put the compiled half of keylatch-etcd in the place of our own, if it is there."""
    if find_spec("keylatch_etcd") is None:
        return
    try:
        own, other = version("keylatch"), version("keylatch-etcd")
    except PackageNotFoundError:
        # A source tree, which has no versions.
        own = other = ""
    if own != other:
        raise ImportError(
            f"keylatch is of version {own}, and keylatch-etcd of {other}; `pip install keylatch[etcd]=={own}` gets those that "
            "go together, and `pip uninstall keylatch-etcd` leaves locks between machines out"
        )
    # It has all that our own has.
    sys.modules["keylatch._keylatch"] = import_module("keylatch_etcd._keylatch")


choose()
