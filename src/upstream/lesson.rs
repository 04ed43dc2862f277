//! After how many requests a server ends its connections, learnt from those that it has ended.

use std::cell::Cell;

/// What the connections to one server have shown.
///
/// A server that ends each connection after the same number of requests (`keepalive_requests` of nginx) leaves those
/// unanswered that were sent behind the last one. It does not say the number, but two connections in a row that ended with
/// the same one do; from then on no more are sent on a connection, as long as the server goes on like that.
#[derive(Debug, Default)]
pub(super) struct Lesson {
    /// How many requests the last connection carried that the server ended.
    last: Cell<Option<u64>>,
    limit: Cell<Option<u64>>,
}

impl Lesson {
    /// How many requests a connection is expected to carry.
    pub(super) fn limit(&self) -> u64 {
        self.limit.get().unwrap_or(u64::MAX)
    }

    /// The server has ended a connection after so many requests.
    pub(super) fn ended_after(&self, requests: u64) {
        if self.last.replace(Some(requests)) == Some(requests) {
            self.limit.set(Some(requests));
        }
    }

    /// A connection has carried as many requests as were expected, and the server has not ended it.
    pub(super) fn outlived(&self) {
        self.last.set(None);
        self.limit.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_in_a_row_that_ended_alike_set_the_limit_and_one_that_did_not_end_lifts_it() {
        let lesson = Lesson::default();
        for (requests, limit) in
            [(20, u64::MAX), (7, u64::MAX), (20, u64::MAX), (20, 20), (20, 20), (3, 20), (3, 3)]
        {
            lesson.ended_after(requests);
            assert_eq!(lesson.limit(), limit, "{requests}");
        }
        lesson.outlived();
        assert_eq!(lesson.limit(), u64::MAX);
        lesson.ended_after(3);
        assert_eq!(lesson.limit(), u64::MAX);
    }
}
