//! Meeting a run in its middle, however fast the machine is: the database does not take a checkpoint of it
//! until the test lets go, and no run goes on past the boundary at which it puts one on record.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::place::Place;

/// Holds runs of a place; lets go when it is released.
pub(crate) struct Hold<'a> {
    place: &'a Place,
    table: &'static str,
    /// A session that has the lock which the checkpoint waits for, as long as its input is open.
    session: Child,
}

impl Place {
    /// From now on no checkpoint of this step or a later one gets on record.
    pub(crate) fn hold_at_checkpoint(&self, step: u64) -> Hold<'_> {
        self.hold_at("checkpoint", &format!("new.step >= {step}"))
    }

    /// From now on no row of this table gets there of which this holds.
    pub(crate) fn hold_at(&self, table: &'static str, condition: &str) -> Hold<'_> {
        let mut psql = self.hm(&["db", "psql", "--", "-qAt"]);
        let mut session = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        session
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"select pg_advisory_lock(9), 'held';\n")
            .unwrap();
        let mut said = String::new();
        BufReader::new(session.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said.trim(), "|held");
        self.sql(&format!(
            "create function hold() returns trigger language plpgsql as $$ begin \
             if {condition} then perform pg_advisory_xact_lock(9); end if; return new; end $$; \
             create trigger hold before insert on {table} for each row execute function hold()"
        ));
        Hold { place: self, table, session }
    }
}

impl Hold<'_> {
    /// Waits until a run stands where it puts the checkpoint on record: all steps before it are done, and
    /// those after it that were trained while it was written.
    pub(crate) fn reached(&self) {
        let begun = Instant::now();
        let waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted";
        while self.place.sql(waiting) == "0" {
            assert!(begun.elapsed() < Duration::from_secs(300), "no run comes to the checkpoint");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets the run go on, and later ones pass.
    pub(crate) fn release(mut self) {
        drop(self.session.stdin.take());
        self.session.wait().unwrap();
        let table = self.table;
        self.place.sql(&format!("drop trigger hold on {table}; drop function hold"));
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        // Of a test that failed; a session that was released has ended.
        let _ = self.session.kill();
        let _ = self.session.wait();
    }
}
