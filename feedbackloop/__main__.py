"""`python -m feedbackloop` is the same as `feedbackloop`."""

from feedbackloop.cli import main

if __name__ == "__main__":
    main()
