"""What programs use to have their work done; for now by this machine alone.

`noria.client.executor.LocalExecutor` runs ordinary Python functions in the sandbox, behind the interface of
`concurrent.futures`.
"""
