"""`python -m lirpa_verify` is `lirpa-verify`."""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # before anything is imported: there is nothing to tidy up yet
    from lirpa_verify.cli import main

    main()
