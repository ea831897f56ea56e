"""TLS of entry points: contexts of OpenSSL, certificates by server name, session tickets."""
