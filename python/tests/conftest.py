"""What the tests use of pytest beside the package's own plugin."""

pytest_plugins = ["pytester"]
