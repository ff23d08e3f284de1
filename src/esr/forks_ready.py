"""The last module that the server of `esr.forks` loads; what it does here, no fork has to do.

Python keeps the regular expressions that it compiled, and the restart phrases take a quarter of a
second. The versions of the libraries, which every table names, are looked up once. A garbage
collection writes into every object that it looks at, which in a fork copies all pages of the
libraries: 150 MB in 0.35 seconds. So it leaves alone what is loaded by now.
"""

import contextlib
import gc

from esr.arms.restarts import read_phrases
from esr.config import JudgingConfig
from esr.errors import EsrError
from esr.provenance import versions

with contextlib.suppress(OSError, EsrError):  # of another folder, or of a study with its own file
    read_phrases(JudgingConfig.model_fields["restart_phrases"].default)

versions()

gc.collect()
gc.freeze()
