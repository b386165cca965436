"""Processes of a worker: those that run handlers, and several workers side by side.

    ProcessPool     in the worker: hands jobs to children, watches over them, kills them
    Template        forked off before the worker connects to anything; forks the children
    child           runs the attempts of one child, one after another
    frames          what worker and child tell each other
    Supervisor      forks several whole workers and replaces those that die
    forking         how all of these are forked, and when a process may not be

A process in which gRPC runs cannot be forked safely: its threads are not there in the copy, but
their locks are. The worker's own process has such threads from its first Reserve on, so it forks
one process before, the template. That one stays as it is, with one thread, and forks children for
as long as the worker lives: in a millisecond or two, with everything that was imported, and without
anything being pickled.

    worker ──fork──> template ──fork──> child, child, ...
      └───────────── two sockets for each child ─────┘
"""
