"""`python -m auditor` is `fl-audit`."""

from auditor.cli.main import main

if __name__ == "__main__":
    main()
