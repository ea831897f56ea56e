"""Sans-IO protocol codecs: bytes in, bytes and facts out."""
