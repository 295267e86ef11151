"""Bugs to plant in a copy of the source: each switches off something that journal or recovery rest
on.
"""

from tests.planted import Planted, PlantedBugs

_ABOUT = """\
Noticed by the tests of the journal, of recovery and of the file system above them: crashes and
power cuts at every moment, disks that fail, flipped bits, a reference model.
"""

_JOURNAL = "tests/local/test_journal.py"
_FAULTS = "tests/local/test_journal_faults.py"
_LOADER = "tests/local/test_journal_loader.py"
_POWER = "tests/local/test_power_loss.py"
_ROLLS = "tests/local/test_rolls.py"
_LEDGER = "tests/local/test_ledger_segments.py"
_CHECKPOINT = "tests/local/test_checkpoint.py"
_RECOVERY = "tests/local/test_recovery.py"
_STATE = "tests/local/test_state.py"
_MODEL = "tests/fs/test_model.py"

_BUGS = (
    # --- bytes ------------------------------------------------------------------------------------
    Planted(
        what="the checksum of a record's bytes is not looked at",
        rule="damage is detected, never replayed",
        file="pdfs/local/journal_reader.py",
        old="len(payload) < size or xxhash.xxh3_64_intdigest(payload) != frame.payload_checksum:",
        new="len(payload) < size:",
        where=_LOADER,
        test="flipped_bit_before_the_tail",
    ),
    Planted(
        what="the checksum of a record larger than the window is not looked at",
        rule="damage is detected, never replayed",
        file="pdfs/local/journal_reader.py",
        old="if not is_there or self._file.checksum(start, size) != frame.payload_checksum:",
        new="if not is_there:",
        where=_LOADER,
        test="big_records",
    ),
    Planted(
        what="the checksum of a frame is not looked at",
        rule="damage is detected, never replayed",
        file="pdfs/local/journal_format.py",
        old="    if xxhash.xxh3_64_intdigest(place + raw[:_UNCHECKED]) != checksum:\n"
        "        return None\n",
        new="",
        where=_LOADER,
        test="flipped_bit_before_the_tail",
    ),
    Planted(
        what="a record that an earlier run wrote to the same file is replayed",
        rule="a frame counts only where its own run wrote it",
        file="pdfs/local/journal_reader.py",
        old="            if body is None or frame.kind == HEADER or frame.mark != self._mark:",
        new="            if body is None or frame.kind == HEADER:",
        where=_LOADER,
        test="older_generation",
    ),
    Planted(
        what="a segment of another session is replayed",
        rule="a frame counts only where its own session wrote it",
        file="pdfs/local/journal_listing.py",
        old="            if header.session != session:",
        new="            if not header.session:",
        where=_LOADER,
        test="another_session",
    ),
    Planted(
        what="a copy of a segment under another number is replayed",
        rule="a frame counts only in its own segment",
        file="pdfs/local/journal_listing.py",
        old="            if stated != segment.number:",
        new="            if not stated:",
        where=_LOADER,
        test="a_copy_of_a_segment",
    ),
    Planted(
        what="replay goes on behind a record that is missing",
        rule="replay stops at the first gap",
        file="pdfs/local/journal_loader.py",
        old="            if sequence != self._last + 1 and not is_carried:",
        new="            if sequence <= self._last and not is_carried:",
        where=_LOADER,
        test="missing_segment or changed_sector",
    ),
    Planted(
        what="a segment that is gone before one without records passes for one that never was",
        rule="damage is detected, and never resumed as if nothing had been written",
        file="pdfs/local/journal_loader.py",
        old="            if expected is not None and file.number > expected:",
        new="            if expected is not None and file.number < expected:",
        where=_LOADER,
        test="only_segment_with_records or torn_bytes_before_a_segment",
    ),
    Planted(
        what="a segment does not tell that another one goes on",
        rule="damage is detected, and never resumed as if nothing had been written",
        file="pdfs/local/journal.py",
        old="            self._current.end_before(self._prepared.number)\n",
        new="",
        where=_LOADER,
        test="last_segment_of_a_closed_journal",
    ),
    Planted(
        what="bytes that were synced and are damaged pass for a torn tail",
        rule="the tail begins after the highest number that any record calls synced",
        file="pdfs/local/journal_loader.py",
        old="        return self._synced > self._last or has_defect or is_sealed_behind",
        new="        return has_defect or is_sealed_behind",
        where=_LOADER,
        test="flipped_bit_before_the_tail",
    ),
    Planted(
        what="what a crash tore off behind the last sync is called damage",
        rule="a torn tail is normal",
        file="pdfs/local/journal_loader.py",
        old="        return self._synced > self._last or has_defect or is_sealed_behind",
        new="        return self._stop is not None or has_defect or is_sealed_behind",
        where=_LOADER,
        test="cut_at_any_byte_gives",
    ),
    Planted(
        what="what a segment's trailer counts is not looked at",
        rule="a whole segment is exactly what its trailer says",
        file="pdfs/local/journal_reader.py",
        old="if stated is not None and stated.totals == passed:",
        new="if stated is not None:",
        where=_LOADER,
        test="trailer",
    ),
    Planted(
        what="the journal is cut one record early",
        rule="kill -9 loses nothing acknowledged",
        file="pdfs/local/journal_reader.py",
        old="        if len(payload) < size or ",
        new="        if start + size >= self._file.size or ",
        where=_LOADER,
        test="cut_at_any_byte_gives",
    ),
    Planted(
        what="a record that contradicts those before it makes the session unrecoverable",
        rule="damage stops replay there and is reported; the rest is kept",
        file="pdfs/local/checkpoint.py",
        old="        loaded.reject(record, error.what)",
        new="        raise",
        where="tests/mount/test_workspace.py",
        test="contradicts",
    ),
    Planted(
        what="damage that an earlier recovery found is forgotten by the next",
        rule="damage is reported, and the rest is kept aside",
        file="pdfs/local/recovery.py",
        old="            directory.note_damage()\n",
        new="            pass\n",
        where="tests/mount/test_workspace.py",
        test="later_recovery",
    ),
    # --- append -----------------------------------------------------------------------------------
    Planted(
        what="the reply goes out before the append: the last record is still in memory",
        rule="journal first: a request is in the journal before its reply",
        file="pdfs/local/journal_segment.py",
        old="        size = write_fully(self._disk, self.descriptor, (frame, body, data), end)\n",
        new="        size = len(frame) + len(body) + len(data)\n"
        "        late = vars(self).pop('late', None)\n"
        "        vars(self)['late'] = (frame, body, bytes(data)), end\n"
        "        if late is not None:\n"
        "            write_fully(self._disk, self.descriptor, *late)\n",
        where="tests/local/test_process_death.py " + _JOURNAL,
        test="kill or read_back",
    ),
    Planted(
        what="a name is changed before the append: one that finds the disk full has been changed",
        rule="record, then append, then apply",
        file="pdfs/local/ledger.py",
        old="            appended = self._journal.append(code, body, data, keep=keep)\n"
        "            at = Position(appended.segment, appended.data_offset)\n"
        "            self.tree.apply(record, at, len(data))\n",
        new="            if not data:\n"
        "                self.tree.apply(record)\n"
        "            appended = self._journal.append(code, body, data, keep=keep)\n"
        "            at = Position(appended.segment, appended.data_offset)\n"
        "            if data:\n"
        "                self.tree.apply(record, at, len(data))\n",
        where="tests/fs/test_trouble.py",
        test="full_disk or read_only",
    ),
    Planted(
        what="opening a file with O_TRUNC empties it without a record",
        rule="journal first: every request that changes something is a record",
        file="pdfs/fs/filesystem.py",
        old="            self._commits.commit(plan.plan_truncate(node, caller, "
        "time=self._clock.now()))",
        new="            node.resize(0)",
        where=_MODEL,
        test="random_calls and 0",
    ),
    Planted(
        what="an extended attribute is set without a record",
        rule="journal first: every request that changes something is a record",
        file="pdfs/fs/filesystem.py",
        old="        self._commits.commit(xattrs.plan_set(node, name, value, self._clock.now()))",
        new="        node.xattrs[name_of(name)] = value\n        node.ctime = self._clock.now()",
        where=_MODEL,
        test="random_calls and 0",
    ),
    Planted(
        what="the offset moves though a write failed",
        rule="the offset moves only after a full write",
        file="pdfs/local/journal_segment.py",
        old="        size = write_fully(self._disk, self.descriptor, (frame, body, data), end)\n"
        "        self._written = _Written(end + size, sequence, totals.plus(len(body), "
        "len(data)))\n",
        new="        size = len(frame) + len(body) + len(data)\n"
        "        self._written = _Written(end + size, sequence, totals.plus(len(body), "
        "len(data)))\n"
        "        write_fully(self._disk, self.descriptor, (frame, body, data), end)\n",
        where=_JOURNAL,
        test="disk_full or torn_bytes",
    ),
    Planted(
        what="a write that takes a part is taken for a whole one",
        rule="the offset moves only after a full write",
        file="pdfs/disk.py",
        old="    while written < total:\n",
        new="    while total and not written:\n",
        where="tests/test_disk.py",
        test="write_fully",
    ),
    Planted(
        what="an append that found the disk full takes the record before it along",
        rule="nothing is ever truncated by an error of ours",
        file="pdfs/local/journal_segment.py",
        old="            self._disk.ftruncate(self.descriptor, max(self.end, self._allocated))",
        new="            self._disk.ftruncate(self.descriptor, self.end - 1)",
        where=_JOURNAL,
        test="disk_full",
    ),
    Planted(
        what="an I/O error at a write is taken for a full disk",
        rule="after one failed write the journal has failed for ever",
        file="pdfs/local/journal.py",
        old="_FULL = (errno.ENOSPC, errno.EDQUOT)",
        new="_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)",
        where=_FAULTS,
        test="no_failing_call and EIO and growing",
    ),
    Planted(
        what="requests go on after the journal has failed",
        rule="after one failure the mount is read-only",
        file="pdfs/fs/commits.py",
        old="        if self.failure is not None:\n"
        "            raise self.failure\n"
        "        try:\n"
        "            return self._ledger.commit(record, data)",
        new="        try:\n            return self._ledger.commit(record, data)",
        where="tests/fs/test_trouble.py",
        test="read_only or last_one",
    ),
    # --- sync -------------------------------------------------------------------------------------
    Planted(
        what="a sync covers the newest segment only",
        rule="fsync covers all unsynced segments",
        file="pdfs/local/journal.py",
        old="            for segment in self._unsealed\n            if segment.has_records",
        new="            for segment in self._unsealed[-1:]\n            if segment.has_records",
        where=_JOURNAL,
        test="covers_every",
    ),
    Planted(
        what="a sync covers the newest segment first",
        rule="fsync covers all unsynced segments, oldest first",
        file="pdfs/local/journal.py",
        old="            for segment in self._unsealed\n            if segment.has_records",
        new="            for segment in reversed(self._unsealed)\n"
        "            if segment.has_records",
        where=_JOURNAL,
        test="covers_every",
    ),
    Planted(
        what="what is appended while a sync runs is called synced",
        rule="fsync waits for an fdatasync that started after its last record",
        file="pdfs/local/journal.py",
        old="        self._synced = max(self._synced, point.sequence)",
        new="        self._synced = self.last_sequence",
        where=_POWER,
        test="after_any_power_cut",
    ),
    Planted(
        what="an fsync is content with one that was under way already",
        rule="fsync waits for an fdatasync that started after its last record",
        file="pdfs/local/ledger.py",
        old="                await self._syncing.wait()\n",
        new="                await self._syncing.wait()\n                return\n",
        where=_LEDGER,
        test="came_after",
    ),
    Planted(
        what="a sync that failed is reported as done",
        rule="no success after a failed sync",
        file="pdfs/local/ledger.py",
        old="            failed = self._journal.mark_failed(point, error)\n"
        "            if isinstance(error, OSError):\n"
        "                raise failed from error\n"
        "            raise\n",
        new="            self._journal.mark_synced(point)\n",
        where=_LEDGER + " tests/local/test_ledger.py",
        test="fails or failed",
    ),
    Planted(
        what="after a failed sync the next one is tried, and believed",
        rule="after one failed sync the journal is never synced again",
        file="pdfs/local/journal.py",
        old="        self._failure = self._failure or str(error) or type(error).__name__\n",
        new="",
        where=_FAULTS,
        test="never_later and growing and EIO",
    ),
    Planted(
        what="nothing is synced in the background",
        rule="power loss takes no more than the flush interval",
        file="pdfs/mount/serving.py",
        old="            await trio.sleep(self._served.ctx.timing.flush)\n",
        new="            await trio.sleep_forever()\n",
        where="tests/mount/test_flush.py",
        test="no_program_ever",
    ),
    Planted(
        what="what was saved last waits for the publish to be synced",
        rule="power loss takes no more than the flush interval",
        file="pdfs/mount/serving.py",
        old="            await filesystem.sync()  # a publish that",
        new="            pass  # a publish that",
        where="tests/mount/test_flush.py",
        test="bucket_is_away",
    ),
    # --- segments ---------------------------------------------------------------------------------
    Planted(
        what="the header is not synced at creation",
        rule="header and name are synced before the first record",
        file="pdfs/local/journal_segment.py",
        old="            fsync(disk, descriptor)\n        except BaseException:",
        new="        except BaseException:",
        where=_POWER,
        test="after_any_power_cut",
    ),
    Planted(
        what="the directory of a new segment is not synced",
        rule="header and name are synced before the first record",
        file="pdfs/local/journal_tasks.py",
        old="            self.made = self._make()\n            self._sync()\n",
        new="            self.made = self._make()\n",
        where=_POWER,
        test="after_any_power_cut",
    ),
    Planted(
        what="the directory is not synced when a segment was sealed",
        rule="after a close nothing is left to chance",
        file="pdfs/local/journal_tasks.py",
        old="                segment.seal()\n                self._sync()\n",
        new="                segment.seal()\n",
        where=_POWER,
        test="nothing_is_left_to_chance",
    ),
    Planted(
        what="a segment is renamed before its trailer is synced",
        rule="the name without .__partial__ says that the segment is whole",
        file="pdfs/local/journal_segment.py",
        old="        fsync(self._disk, self.descriptor)\n        whole =",
        new="        whole =",
        where=_POWER,
        test="after_any_power_cut",
    ),
    Planted(
        what="a segment is sealed before its records are synced",
        rule="trailer and name come when all records before them are synced",
        file="pdfs/local/journal.py",
        old="ready = [one for one in self._unsealed[:-1] if one.last_sequence <= self._synced]",
        new="ready = self._unsealed[:-1]",
        where=_JOURNAL + " " + _POWER,
        test="seal_takes_only or after_any_power_cut",
    ),
    Planted(
        what="journal files can be read by others",
        rule="directories 0700, files 0600",
        file="pdfs/disk.py",
        old="FILE_MODE: Final = 0o600",
        new="FILE_MODE: Final = 0o644",
        where=_JOURNAL,
        test="private",
    ),
    # --- full disk --------------------------------------------------------------------------------
    Planted(
        what="writes take the reserve",
        rule="deletes and the publish still work on a full disk",
        file="pdfs/local/journal.py",
        old="            room = FRAME_SIZE + len(body) + len(data) + keep\n",
        new="            room = FRAME_SIZE + len(body) + len(data)\n",
        where=_ROLLS,
        test="reserve_to_others",
    ),
    Planted(
        what="nothing is allocated for a segment",
        rule="the reserve is allocated, not computed",
        file="pdfs/local/journal_segment.py",
        old="                disk.allocate(descriptor, 0, size)\n",
        new="                pass\n",
        where=_ROLLS,
        test="allocated or full_disk",
    ),
    Planted(
        what="a prepared segment is used up though no room is left for another",
        rule="the reserve holds the prepared segment",
        file="pdfs/local/journal.py",
        old="        if self._prepared is not None and self._current.has_records and not "
        "is_reserved:",
        new="        if self._prepared is not None and self._current.has_records:",
        where=_ROLLS,
        test="last_prepared",
    ),
    Planted(
        what="a checkpoint on a full disk finds no room for its snapshot",
        rule="the reserve has room for a snapshot",
        file="pdfs/local/checkpoint.py",
        old="            disk.allocate(descriptor, size, wanted - size)\n",
        new="            pass\n",
        where="tests/local/test_full_disk.py",
        test="others_took_all",
    ),
    # --- checkpoints ------------------------------------------------------------------------------
    Planted(
        what="live extents are pointed at the copies before the snapshot is durable",
        rule="the new snapshot, then the live extents, then the old segments",
        file="pdfs/local/upkeep.py",
        old="            with trio.CancelScope(shield=True):\n"
        '                await self._on_disk("write a checkpoint", commit_checkpoint, order)\n',
        new="            with trio.CancelScope(shield=True):\n"
        "                await self._refer_to(made)\n"
        '                await self._on_disk("write a checkpoint", commit_checkpoint, order)\n',
        where=_CHECKPOINT,
        test="fails_at_any_call",
    ),
    Planted(
        what="old segments go before the new snapshot's name is synced",
        rule="the new snapshot: rename, fsync of the directory; then the old segments go",
        file="pdfs/local/checkpoint.py",
        old="    disk.rename(directory, next_snapshot(order.number), directory, SNAPSHOT)\n"
        "    fsync(disk, directory)\n",
        new="    disk.rename(directory, next_snapshot(order.number), directory, SNAPSHOT)\n",
        where=_CHECKPOINT,
        test="power_cut_at_any_step_of_a_checkpoint",
    ),
    Planted(
        what="a snapshot is renamed before its bytes are synced",
        rule="the new snapshot: temporary, fsync, rename",
        file="pdfs/local/checkpoint.py",
        old="        write_fully(disk, descriptor, [head, content], 0)\n"
        "        disk.fsync(descriptor)\n",
        new="        write_fully(disk, descriptor, [head, content], 0)\n",
        where=_CHECKPOINT,
        test="power_cut_at_any_step_of_a_checkpoint",
    ),
    Planted(
        what="a snapshot is renamed before the name of what it points to is synced",
        rule="what a snapshot points to is on the disk before the snapshot is",
        file="pdfs/local/checkpoint.py",
        old="    fsync(disk, directory)\n"
        "    disk.rename(directory, next_snapshot(order.number), directory, SNAPSHOT)\n",
        new="    disk.rename(directory, next_snapshot(order.number), directory, SNAPSHOT)\n",
        where=_CHECKPOINT,
        test="power_cut_at_any_step_of_a_checkpoint",
    ),
    Planted(
        what="segments that the new snapshot still needs go with the others",
        rule="a segment goes when nothing refers to it any more",
        file="pdfs/local/checkpoint.py",
        old="for number in found - moves.kept if number < moves.segment",
        new="for number in found if number < moves.segment",
        where=_CHECKPOINT,
        test="old_segments_go",
    ),
    Planted(
        what="damaged bytes are carried on as if they were sound",
        rule="damage is detected, never replayed",
        file="pdfs/local/checkpoint.py",
        old="        _check_intact(disk, directory, session, tree, copied, found.through)\n",
        new="",
        where=_CHECKPOINT,
        test="checked_before",
    ),
    Planted(
        what="a checkpoint amid a publish leaves some of its bytes behind the boundary",
        rule="what a publish includes is told by one boundary",
        file="pdfs/local/carrying.py",
        old="    if flight is not None:\n        needed |= ",
        new="    if flight is None:\n        needed |= ",
        where=_CHECKPOINT,
        test="since_a_publish_began",
    ),
    Planted(
        what="a segment that a publish is reading is closed under it",
        rule="descriptors in use are pinned",
        file="pdfs/local/journal_files.py",
        old="        if not self._pins:\n            self._close(numbers)",
        new="        if self._pins >= 0:\n            self._close(numbers)",
        where=_CHECKPOINT,
        test="a_publish_reads",
    ),
    # --- recovery ---------------------------------------------------------------------------------
    Planted(
        what="a session all of whose segments are gone is resumed as one that wrote nothing",
        rule="damage is detected and reported",
        file="pdfs/local/recovery.py",
        old="        is_begun=not is_beginning(directory.descriptor, found.through),\n",
        new="",
        where=_RECOVERY,
        test="all_gone",
    ),
    Planted(
        what="the note that a journal is just beginning is not synced before its snapshot",
        rule="a death, or a power cut, at any step of beginning is no damage",
        file="pdfs/local/session_directory.py",
        old="            with opened(self._disk, self.descriptor, _beginning(through), flags):\n"
        "                self._disk.fsync(self.descriptor)\n",
        new="            with opened(self._disk, self.descriptor, _beginning(through), flags):\n"
        "                pass\n",
        where=_RECOVERY,
        test="power_cut_while",
    ),
    Planted(
        what="a recovery believes that the dead process's bytes are on the disk",
        rule="an old file's sync is never believed",
        file="pdfs/local/recovery.py",
        old="    copied = _choose(directory, recovered)\n",
        new="    copied = frozenset[int]()\n",
        where=_RECOVERY,
        test="never_synced",
    ),
    Planted(
        what="a recovery sets the old segments aside before its snapshot",
        rule="recovery: new files, then the old ones are moved aside, then the first append",
        file="pdfs/local/recovery.py",
        old="        _write_snapshot(directory, _new_state(recovered))\n"
        "        directory.let_go_segments(number, kept)\n",
        new="        directory.let_go_segments(number, kept)\n"
        "        _write_snapshot(directory, _new_state(recovered))\n",
        where=_RECOVERY,
        test="fails_at_any_call",
    ),
    Planted(
        what="a recovery that fails at its last sync removes what its snapshot points to",
        rule="what a failed sync leaves open is open",
        file="pdfs/local/recovery.py",
        old="        if found is not None and found.through < number:",
        new="        if found is not None:",
        where=_RECOVERY,
        test="fails_at_any_call",
    ),
    Planted(
        what="sequence numbers begin again behind the last record that was replayed",
        rule="no sequence number appears twice",
        file="pdfs/local/recovery.py",
        old="    tree, after = recovered.tree, recovered.end.highest_sequence\n",
        new="    tree, after = recovered.tree, recovered.end.last_sequence\n",
        where=_RECOVERY,
        test="no_number",
    ),
    Planted(
        what="files that were open without a name stay for ever after a recovery",
        rule="an orphan goes at the end of a recovery",
        file="pdfs/local/recovery.py",
        old="    for ino in sorted(tree.orphans):\n        tree.apply(Drop(ino=ino))\n",
        new="",
        where=_RECOVERY,
        test="keeps_every_byte",
    ),
    Planted(
        what="a session whose process lives is opened by another",
        rule="an exclusive flock: a second process fails at once",
        file="pdfs/local/state.py",
        old="if not lock_file(directory.keep(self._open_lock(directory.descriptor, os.O_CREAT))):",
        new="if directory.keep(self._open_lock(directory.descriptor, os.O_CREAT)) < 0:",
        where=_STATE,
        test="held_until",
    ),
    Planted(
        what="a file is replaced before its new bytes are synced",
        rule="temporary, fsync, rename: the old file or the new one",
        file="pdfs/disk.py",
        old="            write_fully(disk, descriptor, content, 0)\n"
        "            disk.fsync(descriptor)\n",
        new="            write_fully(disk, descriptor, content, 0)\n",
        where="tests/test_disk.py " + _STATE,
        test="after_any_power_cut",
    ),
    Planted(
        what="a file that was replaced comes back after a power cut",
        rule="rename, fsync of the directory: what returned is durable",
        file="pdfs/disk.py",
        old="            disk.unlink(directory, new)\n        raise\n    disk.fsync(directory)\n",
        new="            disk.unlink(directory, new)\n        raise\n",
        where="tests/test_disk.py " + _STATE,
        test="after_any_power_cut",
    ),
    Planted(
        what="a new session's directory is not synced",
        rule="a session begins when its directory survives power loss",
        file="pdfs/local/state.py",
        old="                self._disk.fsync(parent)\n                undo.pop_all()",
        new="                undo.pop_all()",
        where=_STATE,
        test="new_session_survives",
    ),
    Planted(
        what="a session that was discarded is in neither place after a power cut",
        rule="what a user wrote is deleted only by that user's word",
        file="pdfs/local/state.py",
        old="        self._disk.fsync(target)\n        self._disk.fsync(source)\n",
        new="        self._disk.fsync(source)\n",
        where=_STATE,
        test="discarded_session_is_here_or_there",
    ),
    Planted(
        what="who empties the trash deletes what a session's own process is deleting",
        rule="a session whose process lives is nobody else's",
        file="pdfs/local/state.py",
        old="                if self._is_held(old.descriptor):\n                    return\n",
        new="",
        where=_STATE,
        test="its_session_is_deleting",
    ),
    # --- layers -----------------------------------------------------------------------------------
    Planted(
        what="what was cut from a file is fetched back when it grows again",
        rule="truncate lowers base.limit; what was cut is never fetched back",
        file="pdfs/core/node.py",
        old="            self.limit = min(self.limit, size)\n",
        new="",
        where=_MODEL,
        test="random_calls",
    ),
    Planted(
        what="what was cut from a file while it was being published comes back with the settle",
        rule="truncate lowers base.limit; what was cut is never fetched back",
        file="pdfs/core/tree.py",
        old="min(content.size, self.in_flight.lowest.get(node.ino, content.size))",
        new="content.size",
        where="tests/core/test_tree.py",
        test="after_a_publish_began",
    ),
    Planted(
        what="what was written since a publish began goes with its settle",
        rule="a settle drops what was appended before the publish's boundary, and no more",
        file="pdfs/core/tree.py",
        old="            node.extents.drop_until(self.in_flight.boundary)\n",
        new="            node.extents.drop_until(Position(1 << 62, 0))\n",
        where="tests/local/test_lives.py",
        test="life",
    ),
    Planted(
        what="a read that waited for the bucket answers what was there before",
        rule="a handler that awaited reads the layers anew before it answers",
        file="pdfs/local/ledger.py",
        old="            content, first, last = missing\n"
        "            based[missing] = await (fetch or self._fetch)(content, first, last)\n",
        new="            content, first, last = missing\n"
        "            before = node.copy()\n"
        "            before.extents = type(node.extents)(node.extents)\n"
        "            node = before\n"
        "            based[missing] = await (fetch or self._fetch)(content, first, last)\n",
        where="tests/fs/test_files.py",
        test="during_a_fetch",
    ),
    Planted(
        what="an unlinked file goes while somebody has it open",
        rule="unlink leaves an orphan, whoever has it open",
        file="pdfs/fs/filesystem.py",
        old="if ino not in self.tree.orphans or ino in self._in_use or self._commits.failure "
        "is not",
        new="if ino not in self.tree.orphans or self._commits.failure is not",
        where="tests/fs/test_lifetime.py",
        test="unlinked",
    ),
    # --- the end ----------------------------------------------------------------------------------
    Planted(
        what="a session that is cut short gives its lock back though its journal is not sealed",
        rule="where hooks can still run, the journal is sealed before the lock goes",
        file="pdfs/session.py",
        old="        seal()\n",
        new="",
        where="tests/mount/test_hooks.py",
        test="lock_is_kept",
    ),
    # --- the session's log ------------------------------------------------------------------------
    Planted(
        what="a line of the session's log waits for the next one",
        rule="a line is in the file when its call returns",
        file="pdfs/local/session_log.py",
        old="        self._end += write_fully(self._disk, self._file, [line], self._end)\n",
        new="        late = vars(self).pop('late', b'')\n"
        "        vars(self)['late'] = line\n"
        "        self._end += write_fully(self._disk, self._file, [late], self._end)\n",
        where="tests/local/test_session_log.py",
        test="each_event or kill",
    ),
    Planted(
        what="a session's log is renamed before its last line is synced",
        rule="trailer, fsync, then the rename",
        file="pdfs/local/session_log.py",
        old="        self._disk.ftruncate(self._file, self._end)\n"
        "        self._disk.fsync(self._file)\n",
        new="        self._disk.ftruncate(self._file, self._end)\n",
        where="tests/local/test_session_log.py",
        test="after_any_power_cut",
    ),
    Planted(
        what="two processes write one session's log",
        rule="an exclusive flock: a second process fails at once",
        file="pdfs/local/session_log.py",
        old="        if not lock_file(descriptor):",
        new="        if descriptor < 0:",
        where="tests/local/test_session_log.py",
        test="second_process",
    ),
    # --- by somebody who had not seen the tests ---------------------------------------------------
    Planted(
        what="a checkpoint amid a publish leaves what came later below the new boundary",
        rule="a settle drops what was appended before the publish's boundary, and no more",
        file="pdfs/local/carrying.py",
        old="if number >= flight.boundary.segment}",
        new="if number <= flight.boundary.segment}",
        where=_CHECKPOINT,
        test="since_a_publish_began",
        is_by_stranger=True,
    ),
    Planted(
        what="what the last checkpoint carried is copied on without a look at it",
        rule="damage is detected, never replayed",
        file="pdfs/local/checkpoint.py",
        old="_check_intact(disk, directory, session, tree, copied, found.through)",
        new="_check_intact(disk, directory, session, tree, copied - {found.through}, "
        "found.through)",
        where=_CHECKPOINT,
        test="checked_before",
        is_by_stranger=True,
    ),
    Planted(
        what="damage in a segment that no replay reads any more is not kept",
        rule="damage is reported, and the rest is kept aside",
        file="pdfs/local/recovery.py",
        old="        if recovered.damage:\n            directory.note_damage()",
        new="        if recovered.end.damage is not None:\n            directory.note_damage()",
        where="tests/mount/test_workspace.py",
        test="likewise",
        is_by_stranger=True,
    ),
    Planted(
        what="the frame of a torn record proves nothing of what was synced before it",
        rule="the tail begins after the highest number that any record calls synced",
        file="pdfs/local/journal_loader.py",
        old="            self._note(found.frame)\n"
        "            is_record = found.body is not None and found.frame.kind != TRAILER\n"
        "            intact +=",
        new="            is_record = found.body is not None and found.frame.kind != TRAILER\n"
        "            self._note(found.frame if found.body is not None else "
        "found.frame._replace(synced=0))\n"
        "            intact +=",
        where=_LOADER,
        test="torn_record_proves",
        is_by_stranger=True,
    ),
    Planted(
        what="an append that the full disk refused gives the allocated reserve away",
        rule="the reserve is allocated; deletes and the publish still work",
        file="pdfs/local/journal_segment.py",
        old="self._disk.ftruncate(self.descriptor, max(self.end, self._allocated))",
        new="self._disk.ftruncate(self.descriptor, self.end)",
        where=_ROLLS,
        test="gives_back_no_reserve",
        is_by_stranger=True,
    ),
    Planted(
        what="what is appended beside a sync calls synced what that is still to sync",
        rule="a torn tail is normal",
        file="pdfs/local/journal.py",
        old="            data_offset = self._current.append(kind, body, data, self._synced)",
        new="            synced = self._synced if self._point is None else self._point.sequence\n"
        "            data_offset = self._current.append(kind, body, data, synced)",
        where=_POWER,
        test="after_any_power_cut",
        is_by_stranger=True,
    ),
    Planted(
        what="a cut amid a publish is noted only where it reaches into the old base",
        rule="what was cut is never fetched back",
        file="pdfs/core/tree.py",
        old="        if self.in_flight is not None:\n            lowest = self.in_flight.lowest",
        new="        if self.in_flight is not None and node.size < node.base.size:  # else "
        "it cuts no base\n"
        "            lowest = self.in_flight.lowest",
        where="tests/core/test_tree.py",
        test="whatever_happens",
        is_by_stranger=True,
    ),
    Planted(
        what="an echo is no edit: no later publish puts the plain object right",
        rule="an echo: the next plan puts it right",
        file="pdfs/core/tree.py",
        old="Settled, Found, Gone, Drop, Brought})",
        new="Settled, Found, Gone, Echoed, Drop, Brought})",
        where="tests/core/test_tree.py",
        test="echo",
        is_by_stranger=True,
    ),
    Planted(
        what="a resumed log counts by the lines that are there, and forgets those that were lost",
        rule="a number that is missing is a line that could not be written",
        file="pdfs/local/session_log.py",
        old="                self._number = max(self._number, line.number)",
        new="                self._number += 1",
        where="tests/local/test_session_log.py",
        test="were_lost_before",
        is_by_stranger=True,
    ),
    Planted(
        what="fsync through a handle for reading syncs nothing",
        rule="fsync of any file covers all records before it",
        file="pdfs/fs/filesystem.py",
        old="        self._in_use.file(handle)\n        await self.sync()",
        new="        if self._in_use.file(handle).is_writable:  # nothing came through it "
        "otherwise\n"
        "            await self.sync()",
        where="tests/fs/test_files.py",
        test="for_reading_covers",
        is_by_stranger=True,
    ),
    Planted(
        what="a discarded session that can't be looked at is taken for old, and deleted",
        rule="what a user wrote is deleted only by that user's word",
        file="pdfs/local/state.py",
        old="if 0 < each.changed < before)",
        new="if each.changed < before)",
        where=_STATE,
        test="not_be_looked_at",
        is_by_stranger=True,
    ),
    Planted(
        what="the lock is released though sealing failed, which is only logged",
        rule="crash hooks release the lock only after the journal was sealed",
        file="pdfs/mount/carrier.py",
        old="await self._session.break_off(self._workspace.seal)",
        new="await self._session.break_off(self._finish)",
        where="tests/mount/test_hooks.py",
        test="lock_is_kept",
        is_by_stranger=True,
    ),
    Planted(
        what="damaged segments that a recovery sets aside are in neither place after a power cut",
        rule="damage is reported, and the rest is kept aside",
        file="pdfs/local/session_directory.py",
        old="            self._disk.fsync(damaged)\n        self._disk.fsync(self.descriptor)\n",
        new="",
        where=_STATE,
        test="damaged_segment_is_here_or_kept",
        is_by_stranger=True,
    ),
    Planted(
        what="an inode number is given twice where a fence is taken again",
        rule="inode numbers are unique in the stage for ever",
        file="pdfs/local/ledger.py",
        old="*(ino + 1 for ino in taken)])",
        new="*(ino for ino in taken)])",
        where="tests/local/test_ledger.py",
        test="gives_no_number_twice",
        is_by_stranger=True,
    ),
    Planted(
        what="who empties the trash deletes before the session's new name is on the disk",
        rule="no power cut brings a session back of which a part is gone",
        file="pdfs/local/state.py",
        old="                self._sync_moves()\n                old.empty()",
        new="                old.empty()",
        where=_STATE,
        test="whole_or_not_there",
        is_by_stranger=True,
    ),
    Planted(
        what="a segment that was emptied passes for one that nobody has written to",
        rule="damage is detected, and never resumed as if nothing had been written",
        file="pdfs/local/journal_loader.py",
        old="elif file.header is None and file.number in self._begun:",
        new="elif file.header is None and file.number in ():",
        where=_RECOVERY,
        test="segment_was_emptied",
    ),
    Planted(
        what="a rescued file has its name before its bytes are on the disk",
        rule="nothing is called saved when it isn't",
        file="pdfs/cli/rescue.py",
        old="                self._disk.fsync(descriptor)\n",
        new="",
        where="tests/cli/test_rescue.py",
        test="looks_whole",
    ),
    Planted(
        what="a session can be resumed while it is being discarded",
        rule="an exclusive flock: a second process fails at once",
        file="pdfs/cli/discarding.py",
        old="        if session.project:\n            incomplete",
        new="        held.close()\n        if session.project:\n            incomplete",
        where="tests/cli/test_recover.py",
        test="being_discarded",
    ),
    Planted(
        what="a rescue of a damaged journal passes for all there was",
        rule="nothing is called saved when it isn't",
        file="pdfs/cli/recover.py",
        old="        rescued.damage = recovered.damage\n",
        new="",
        where="tests/cli/test_recover.py",
        test="bad_sector or not_all",
    ),
)

JOURNAL = PlantedBugs(title="Journal and recovery", about=_ABOUT, bugs=_BUGS, sample=6)
