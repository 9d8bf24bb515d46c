"""The version, without reading package metadata (which would cost 20 ms at import)."""

VERSION = "0.1.0"
