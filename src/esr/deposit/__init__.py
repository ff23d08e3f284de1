"""What a finished study looks like outside of it: `snakemake deposit` and `esr upload`.

A deposit is a folder with four parts, all made from the bundle and the results of the study:

- `crate/`: an RO-Crate (Workflow Run Crate) with the bundle, the workflow, figures and scorecard;
- `dataset/`: a dataset repository for the Hugging Face Hub, with a card and Croissant metadata;
- `adapters/<model>/`: a model repository for every LoRA adapter;
- `logbook/`: a page a claim, in the format of Trackio's logbooks.

Nothing here opens a connection, except `esr.deposit.hub` and `esr.deposit.zenodo`.
"""
