//! Weighted round robin, smooth: a server of weight 2 among two of weight 1 is chosen as `a b a c`, never `a a b c`.

use std::cell::Cell;

use super::Server;

/// The turn of one worker among the servers of a group.
#[derive(Debug)]
pub(super) struct RoundRobin {
    turns: Vec<Turn>,
    /// All weights are equal: the turn is a counter, and choosing costs the same however many servers there are.
    equal: bool,
    next: Cell<usize>,
}

#[derive(Debug)]
struct Turn {
    weight: i64,
    credit: Cell<i64>,
}

impl RoundRobin {
    /// `first` shifts the beginning, so that several workers do not all begin with the same server.
    pub(super) fn new(servers: &[Server], first: usize) -> Self {
        let turns: Vec<_> = servers
            .iter()
            .map(|server| Turn { weight: i64::from(server.weight.get()), credit: Cell::new(0) })
            .collect();
        let equal = turns.windows(2).all(|pair| matches!(pair, [a, b] if a.weight == b.weight));
        let this = Self { equal, next: Cell::new(first), turns };
        if !this.equal {
            for _ in 0..first {
                this.choose(|_| true);
            }
        }
        this
    }

    /// The next server for which `usable` holds, by its index; `None` where it holds for none.
    pub(super) fn choose(&self, usable: impl Fn(usize) -> bool) -> Option<usize> {
        if self.equal { self.choose_in_turn(usable) } else { self.choose_by_credit(usable) }
    }

    fn choose_in_turn(&self, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let count = self.turns.len();
        let start = self.next.get();
        let chosen =
            (0..count).map(|step| (start.wrapping_add(step)) % count).find(|&index| usable(index))?;
        self.next.set((chosen + 1) % count);
        Some(chosen)
    }

    /// Each usable server earns its weight; the richest is chosen and pays what all earned.
    fn choose_by_credit(&self, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let mut total = 0;
        let mut best: Option<(usize, &Turn)> = None;
        for (index, turn) in self.turns.iter().enumerate().filter(|(index, _)| usable(*index)) {
            turn.credit.set(turn.credit.get() + turn.weight);
            total += turn.weight;
            if best.is_none_or(|(_, richest)| turn.credit.get() > richest.credit.get()) {
                best = Some((index, turn));
            }
        }
        let (index, turn) = best?;
        turn.credit.set(turn.credit.get() - total);
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::base::Address;
    use crate::upstream::Proto;

    fn servers(weights: &[u32]) -> Vec<Server> {
        weights
            .iter()
            .map(|&weight| Server {
                name: format!("w{weight}"),
                addresses: vec![Address::Unix("/x".into())],
                tls: None,
                weight: NonZeroU32::new(weight).unwrap(),
                proto: Proto::H1Only,
            })
            .collect()
    }

    fn picks(turn: &RoundRobin, count: usize) -> Vec<usize> {
        (0..count).map(|_| turn.choose(|_| true).unwrap()).collect()
    }

    #[test]
    fn equal_weights_take_turns() {
        let turn = RoundRobin::new(&servers(&[1, 1, 1]), 0);
        assert_eq!(picks(&turn, 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(picks(&RoundRobin::new(&servers(&[1, 1, 1]), 2), 3), [2, 0, 1]);
    }

    #[test]
    fn weights_are_shares_and_interleave() {
        let turn = RoundRobin::new(&servers(&[2, 1, 1]), 0);
        let chosen = picks(&turn, 8);
        assert_eq!(chosen.iter().filter(|&&index| index == 0).count(), 4);
        assert!(chosen.windows(2).filter(|pair| pair[0] == 0 && pair[1] == 0).count() <= 1, "{chosen:?}");
    }

    #[test]
    fn an_unusable_server_is_passed_over() {
        for weights in [&[1, 1, 1][..], &[3, 2, 1]] {
            let turn = RoundRobin::new(&servers(weights), 0);
            for _ in 0..20 {
                assert_ne!(turn.choose(|index| index != 1), Some(1));
            }
            assert_eq!(turn.choose(|_| false), None);
        }
    }
}
