"""The daemon: one process that carries one session and its mount.

request     what is to be mounted, as one line of JSON
access      configuration, store and local state become a stage that can be worked on
daemon      from a request to an exit code
carrier     one session: joins it with the mount, the control socket and the signals
reading     the same for a read-only mount
workspace   the session's journal on this machine's disk
serving     the mount of a session: the file system, and what runs beside the requests
showing     a file system at its mountpoint; detach takes it away from processes, in order
control     the control socket; commands are what a session does when it is told to by it
stopping    signals, and how long a session may publish then
outcome     what it came to, and status how it is now
mounts      what the kernel says is mounted

Its modules are imported one by one: who only speaks to a daemon loads neither FUSE nor a store.
"""
