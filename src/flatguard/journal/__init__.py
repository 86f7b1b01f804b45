"""What must survive a crash: the tape of events, what was found and done, where each account stands.

One SQLite file. One lane writes, in groups; readers open the file read-only beside it.
"""
