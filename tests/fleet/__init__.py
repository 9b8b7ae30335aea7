"""Real hosts, a registry, a database and a load client, all made by the tests themselves.

::

    10.199.7.1           this machine: the registry (:5000) and the database (:55432)
    10.199.7.11, .12 …   hosts: each with its own processes, address, Docker engine and sshd

It runs on any Linux with Docker, as root or as a user whom sudo asks for no password. One fleet
at a time: its addresses are fixed. What an earlier, killed run left behind is cleared first.
"""
