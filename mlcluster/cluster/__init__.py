"""Which machines, at what price, in which health?

In: the cluster that a job runs on, or its file. Out: what has joined it (`ray_members`), how a job on it has ended
(`ray_jobs`), keys. Not here: what runs on the machines.
"""
