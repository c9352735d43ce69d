"""A whole run: build, train, evaluate, reload, loggers, media and checks."""
