"""`python -m lirpa_verify` is `lirpa-verify`."""

from lirpa_verify.cli import main

if __name__ == "__main__":
    main()
