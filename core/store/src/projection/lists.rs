//! Lists of unequal length as parameters of one statement. Postgres has no list of lists but
//! rectangles, so the values lie one after another, and each row says which of them are its own:
//! `($1)[start:stop]`.

/// Values of many rows' lists, and where each list starts and stops.
#[derive(Debug, Default)]
pub(super) struct Lists<T> {
    /// All values, one list after another.
    pub(super) values: Vec<T>,
    /// Position of each list's first value, from 1; none where a row has no list.
    pub(super) starts: Vec<Option<i32>>,
    /// Position of its last one: one less than its start where the list is empty.
    pub(super) stops: Vec<Option<i32>>,
}

impl<T> Lists<T> {
    pub(super) fn new() -> Lists<T> {
        Lists { values: Vec::new(), starts: Vec::new(), stops: Vec::new() }
    }

    /// The next row's list.
    pub(super) fn push(&mut self, list: impl IntoIterator<Item = T>) {
        self.starts.push(Some(self.values.len() as i32 + 1));
        self.values.extend(list);
        self.stops.push(Some(self.values.len() as i32));
    }

    /// The next row has none: its column becomes null.
    pub(super) fn push_none(&mut self) {
        self.starts.push(None);
        self.stops.push(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_those_of_postgres() {
        let mut lists = Lists::new();
        lists.push([7, 8]);
        lists.push([]);
        lists.push_none();
        lists.push([9]);
        assert_eq!(lists.values, [7, 8, 9]);
        assert_eq!(lists.starts, [Some(1), Some(3), None, Some(3)]);
        assert_eq!(lists.stops, [Some(2), Some(2), None, Some(3)]);
    }
}
