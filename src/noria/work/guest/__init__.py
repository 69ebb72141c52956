"""What runs inside the Python runtime: the codec, the archive, the loader and the harness.

Pure Python without dependencies, the same text for CPython 3.11 to 3.15 and CPython for WASI. The host
imports the codec and the archive from here as well, so that both sides share one definition of the bytes.
Modules import one another relatively: the runtime holds this package under the name `noria_guest`.
"""
