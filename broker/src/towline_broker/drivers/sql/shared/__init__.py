"""What the rooms of databases that are servers have in common.

Several brokers work on such a store at the same time, each over a few connections.

``session.py``      what a database's client has to offer: the seam that its room fills
``links.py``        a connection that is opened again after it was lost
``lanes.py``        the connections that change, each playing what waits in one transaction
``turns.py``        which of them takes what waits
``batches.py``      one such transaction: played, committed, its outcome found out if it was lost
``joined.py``       calls that wait together, in few statements where the database has such
``hot.py``          what such a database offers: the seam for them
``transaction.py``  what an operation runs in
``ready.py``        where the lines of READY jobs begin (claims that stay fast in spite of the dead)
``heads.py``        the same for what is ordered by time
``depths.py``       how deep queues are, as far as limits need it
``memory.py``       these three together
``readers.py``      the connections that look
``driver.py``       the driver: all of this, opened and closed
"""
