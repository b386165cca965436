"""PushStream and Work: calls that stay open, over which messages go both ways.

A message costs a quarter of a call, as long as little is done for it. So what came on all streams
in one turn of the event loop goes to the core as one batch, and answers of one stream that are
there together leave in one message.
"""
