//! A step's sequences cut into what is in memory at once.

use hm_domain::batch::Sequence;

/// Cuts sequences into as few micro-batches as `most` sequences each allow, so that every one of
/// `devices` has equally many, if there are sequences enough. Sizes differ by one at most: the last is
/// no odd remainder, and no device waits long for another.
pub(crate) fn micro_batches(
    mut sequences: &[Sequence],
    most: usize,
    devices: usize,
) -> Vec<&[Sequence]> {
    let rounds = sequences.len().div_ceil(most * devices);
    let count = (rounds * devices).min(sequences.len());
    let mut cut = Vec::with_capacity(count);
    for left in (1..=count).rev() {
        let (next, rest) = sequences.split_at(sequences.len().div_ceil(left));
        cut.push(next);
        sequences = rest;
    }
    cut
}

#[cfg(test)]
mod tests {
    use hm_domain::id::DomainId;

    use super::*;

    fn sizes(sequences: u32, most: usize, devices: usize) -> Vec<usize> {
        let sequence = |at: u32| Sequence { domain: DomainId(0), tokens: vec![at] };
        let all: Vec<Sequence> = (0..sequences).map(sequence).collect();
        let cut = micro_batches(&all, most, devices);
        let tokens: Vec<u32> =
            cut.iter().flat_map(|part| part.iter().map(|s| s.tokens[0])).collect();
        assert_eq!(tokens, (0..sequences).collect::<Vec<_>>(), "each once, in order");
        cut.iter().map(|part| part.len()).collect()
    }

    #[test]
    fn one_device_has_as_few_as_fit_and_as_even_as_they_can_be() {
        assert_eq!(sizes(8, 8, 1), [8]);
        assert_eq!(sizes(8, 4, 1), [4, 4]);
        assert_eq!(sizes(8, 3, 1), [3, 3, 2]);
        assert_eq!(sizes(9, 8, 1), [5, 4]);
    }

    #[test]
    fn every_device_has_work_where_there_are_sequences_enough() {
        // The whole step at once is what a run file says that says nothing.
        assert_eq!(sizes(8, 8, 2), [4, 4]);
        assert_eq!(sizes(5, 5, 4), [2, 1, 1, 1]);
        assert_eq!(sizes(16, 3, 4), [2; 8]);
        assert_eq!(sizes(4, 1, 4), [1; 4]);
        assert_eq!(sizes(2, 2, 4), [1, 1]);
        for (sequences, most, devices) in [(7, 2, 3), (33, 5, 4), (100, 9, 8), (3, 9, 3)] {
            let sizes = sizes(sequences, most, devices);
            assert!(sizes.len().is_multiple_of(devices), "{sizes:?}");
            assert!(sizes.iter().all(|size| (1..=most).contains(size)), "{sizes:?}");
        }
    }
}
