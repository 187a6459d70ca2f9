//! The names of the triggers that manage() and live_view() attach: who fires where depends on them. Pure.

/// The trigger that redacts, and must be the last to see the row.
pub const UPDATE_TRIGGER: &str = "zz_tombstone_update";

/// The trigger that sees what leaves a table, or its bin, and must be the first to.
pub const DELETE_TRIGGER: &str = "00_tombstone_delete";

/// The trigger that puts back what was restored, and must be the last to see the row.
pub const RETURN_TRIGGER: &str = "zz_tombstone_return";

/// The trigger that takes the deletes of a view of live rows.
pub const LIVE_VIEW_TRIGGER: &str = "tombstone_delete";

/// What the names of guards begin with; the managed table's number follows.
pub const GUARD: &str = "zz_tombstone_partition_of_";

/// The trigger that sees TRUNCATE of a managed table, of a bin, and of each partition of a bin.
pub const BIN_GUARD: &str = "zz_tombstone_truncate";

/// The trigger that sees TRUNCATE of one partition of a bin: statement triggers are not copied to partitions.
pub fn truncate_guard(partition: &str) -> String {
    format!(
        "CREATE OR REPLACE TRIGGER {BIN_GUARD} BEFORE TRUNCATE ON {partition} FOR EACH STATEMENT EXECUTE FUNCTION tombstone.on_truncate()"
    )
}
