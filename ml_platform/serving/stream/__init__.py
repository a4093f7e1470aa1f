"""Streaming: events of a topic become recorded decisions, read, decided and written exactly once.

``topics`` names what a model has, ``events`` says what an event is, ``deciding`` decides a batch by the router's own
parts, ``worker`` is the loop, ``control`` brings signed routes, ``inbox`` takes the records to the sealer. Only
``kafka`` knows the broker's client and only ``fastavro`` the codec.
"""
