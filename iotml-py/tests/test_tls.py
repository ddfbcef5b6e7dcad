"""The certificate authorities of the machine are found, although OpenSSL is linked in."""

from __future__ import annotations
