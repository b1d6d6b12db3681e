"""The supervisor: the process that watches a broker from the side.

policy says what is to be done, without doing it; process, watch and workers do it.
"""
