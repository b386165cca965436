"""The words of Towline as plain data: jobs, leases, retry policies and errors.

Knows nothing of gRPC, of stores or of clocks. Times are integers of microseconds since the Unix
epoch on the clock of the store; lengths of time are integers of microseconds.
"""
