"""The garbage collector, set for a server that keeps millions of small objects.

Set for a script, it runs each time that 700 more objects were made than freed, which is at each
larger batch: a seventh of the processor went there over the file store. Reference counts free all
but cycles, of which gRPC makes some with each call that ends in an error (decision 0043).
"""

import gc

#: Objects that were made and not freed; runs over the young ones; runs over those that outlived one
#: such run.
THRESHOLDS = (10_000, 20, 50)


def collect_seldom() -> None:
    """From now on; what there is at this moment is taken to stay."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
