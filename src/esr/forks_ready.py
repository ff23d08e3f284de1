"""The last module that the server of `esr.forks` loads; what it does here, no fork has to do.

The restart phrases are compiled, in a quarter of a second, and the names of old checkpoints that
transformers knows, in a fifth. The versions of the libraries, which every table names, are looked
up once. A garbage collection writes into every object that it looks at, which in a fork copies all
pages of the libraries: 150 MB in 0.35 seconds. So it leaves alone what is loaded by now. A fork
that ends leaves the libraries as they are: PyTorch would remove its 180 tables of operators, in
0.07 seconds.
"""

import contextlib
import gc
import sys
import weakref

from esr.arms.restarts import read_phrases
from esr.config import JudgingConfig
from esr.errors import EsrError
from esr.huge_pages import use_huge_pages
from esr.provenance import versions

with contextlib.suppress(OSError, EsrError):  # of another folder, or of a study with its own file
    read_phrases(JudgingConfig.model_fields["restart_phrases"].default)

versions()

with contextlib.suppress(KeyError, AttributeError):  # not loaded, or another version
    sys.modules["transformers.conversion_mapping"].get_checkpoint_conversion_mapping("llama")

for finalizer in list(getattr(weakref.finalize, "_registry", ())):
    finalizer.atexit = False

gc.collect()
gc.freeze()
use_huge_pages()
