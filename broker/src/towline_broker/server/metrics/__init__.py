"""The broker's figures as Prometheus reads them.

``families`` says what there is, ``store_figures`` and ``process_figures`` what its values are,
``rendering`` how it is written. What a store tells is the same at every broker and process that
uses it; what a process counts is its own.
"""
