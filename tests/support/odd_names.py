"""Names that folders may have, and that somebody between a command line and a disk could take for more."""

ODD_NAMES = (
    "lr=[0.1]",
    "lr=[0.1] \\ ~ü",
    "[",
    "back\\slash",
    "a\\",
    "a*b?c{d,e}",
    "~x",
    " leading and trailing ",
    "new\nline",
    "gs:",
    "%20#$HOME",
    "-dash",
)
