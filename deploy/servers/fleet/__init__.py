"""The real servers that iotml's tests, examples and benchmarks talk to.

`gather` fetches them, `kafka`, `mosquitto`, `hivemq` and `registry` say how each is configured and started,
`ready` asks each in its own protocol whether it serves, and `instance` starts, watches and stops one set of them.
"""
