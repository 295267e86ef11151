"""A directory that plays the bucket: plain objects are plain files, for any tool to use.

    {root}/{key}                          one file per object: its bytes, nothing else
    {root}/.pdfs-bucket/lock              PDFS processes exclude each other by flock(2) on it
    {root}/.pdfs-bucket/clock             touched to read the file system's clock
    {root}/.pdfs-bucket/new/{id}          a file on its way in, or the one that it displaced
    {root}/.pdfs-bucket/uploads/{id}/     info.json and the parts of an upload under way

What stands beside the bytes is in xattrs of the file, set before it gets its name:
`user.pdfs.etag` (MD5 of the bytes that the others were written for), `user.pdfs.type`,
`user.pdfs.meta.{name}`. A file whose bytes another tool changed in place still carries them; its
MD5 then shows that they describe an earlier version, and they are not believed.

Two kinds of neighbour share the directory. PDFS processes take the flock for every change, so what
one compares is what it replaces. Other tools know no flock; against them a new name is taken by
RENAME_NOREPLACE, a replacement or removal is a rename that leaves what it displaced under a hidden
name, where it is looked at before it goes; what was not expected is put back. A tool that still
has the displaced file open loses what it writes into it later, as with every rename.

A change is answered after fsync of the file and of its directory. A symlink is never followed,
and neither it nor any other special file is an object; nothing is ever written over it.
"""

from pdfs.store.directory.store import DirectoryStore, make_root

__all__ = ["DirectoryStore", "make_root"]
