"""`python -m auditor` is `fl-audit`."""

from auditor.cli import main

if __name__ == "__main__":
    main()
