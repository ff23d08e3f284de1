"""What `snakemake verify` does: three minutes that show whether esr works on this machine.

Every check computes something whose result is known, on the organism that ships with the project.
The result is one block of Markdown for an issue, without paths, names of machines or keys.
"""
