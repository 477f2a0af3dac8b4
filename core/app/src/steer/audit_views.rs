//! Level `views` of an audit: every row that people read equals what the log gives.

use hm_domain::audit::Divergence;
use hm_store::{ViewDifference, ViewsReport};
use serde_json::Value;

use crate::terminal;

/// A row that differs, as an audit tells it.
pub(crate) fn divergence(row: &ViewDifference) -> Divergence {
    let column = row.column.as_ref().map(|column| format!(", column {column}")).unwrap_or_default();
    let key = if row.key.is_empty() { String::new() } else { format!(" ({})", row.key) };
    Divergence {
        seq: row.seq.unwrap_or_default(),
        step: None,
        plugin: format!("table {}", row.table),
        what: format!("its row{key}{column}"),
        logged: shown(row.due.as_ref(), "the log gives no such row"),
        found: shown(row.found.as_ref(), "the table has no such row"),
    }
}

fn shown(value: Option<&Value>, none: &str) -> String {
    value.map_or_else(|| none.to_owned(), Value::to_string)
}

/// What `hm db rebuild --check` prints; whether all rows are right.
pub(crate) fn print(name: &str, report: &ViewsReport) -> bool {
    let ViewsReport { events, differences, shown } = report;
    if *differences == 0 {
        println!("the projections of {name} are what its {events} events give");
        return true;
    }
    println!(
        "{differences} rows of the projections of {name} are not what its {events} events give"
    );
    for row in shown {
        let Divergence { plugin: table, what, logged, found, .. } = divergence(row);
        println!("  {table}: {}", terminal::line(&what));
        println!("    log:   {}", terminal::line(&logged));
        println!("    table: {}", terminal::line(&found));
    }
    println!("  `hm db rebuild {name}` mends them");
    false
}
