//! Whom to dial, and when: bootstrap addresses always, peers met before while too few are connected.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use tokio::time::Instant;

use crate::addresses;

/// Peers met before that are remembered, and addresses of each.
const KNOWN_MAX: usize = 1024;
const ADDRESSES_MAX: usize = 4;
/// A peer met before is forgotten after so many failures in a row.
const FAILURES_MAX: u32 = 8;
/// Dials that are started in one round.
const DIALS_PER_ROUND: usize = 8;

/// Waits that double, each a random half longer or shorter so that two peers do not meet for ever.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub shortest: Duration,
    pub longest: Duration,
}

impl Backoff {
    fn wait(&self, failures: u32) -> Duration {
        let doubled = self.shortest.saturating_mul(1 << failures.min(20)).min(self.longest);
        let random = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
        doubled.mul_f64(0.5 + random)
    }
}

/// A bootstrap address.
struct Anchor {
    address: Multiaddr,
    /// Who is named in the address: nobody else may answer there.
    named: Option<PeerId>,
    /// Who answered there last.
    met: Option<PeerId>,
    /// This node itself answers there.
    own: bool,
    attempt: Attempt,
}

/// A peer met before.
#[derive(Default)]
struct Known {
    addresses: Vec<Multiaddr>,
    attempt: Attempt,
}

#[derive(Default)]
struct Attempt {
    failures: u32,
    next: Option<Instant>,
    under_way: bool,
}

impl Attempt {
    fn due(&self, now: Instant) -> bool {
        !self.under_way && self.next.is_none_or(|next| next <= now)
    }
}

/// A dial to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    pub target: Target,
    pub peer: Option<PeerId>,
    pub addresses: Vec<Multiaddr>,
}

/// For whom a dial is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Anchor(usize),
    Known(PeerId),
    /// Somebody has asked for it, and is told what came of it.
    Ticket(u64),
}

pub struct Dialer {
    backoff: Backoff,
    anchors: Vec<Anchor>,
    known: HashMap<PeerId, Known>,
}

impl Dialer {
    pub fn new(own: PeerId, bootstrap: &[Multiaddr], backoff: Backoff) -> Self {
        let anchors = bootstrap
            .iter()
            .map(|address| Anchor {
                address: addresses::bare(address),
                named: addresses::peer(address),
                met: addresses::peer(address),
                own: addresses::peer(address) == Some(own),
                attempt: Attempt::default(),
            })
            .collect();
        Self { backoff, anchors, known: HashMap::new() }
    }

    /// Remember where a peer can be reached.
    pub fn learn(&mut self, peer: PeerId, address: &Multiaddr) {
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(&peer) {
            // Whoever failed most makes room; with none, the newcomer is not remembered.
            let worst = self.known.iter().max_by_key(|(_, known)| known.attempt.failures);
            match worst.filter(|(_, known)| known.attempt.failures > 0).map(|(peer, _)| *peer) {
                Some(worst) => self.known.remove(&worst),
                None => return,
            };
        }
        let known = self.known.entry(peer).or_default();
        let address = addresses::bare(address);
        if known.addresses.contains(&address) {
            return;
        }
        if known.addresses.len() >= ADDRESSES_MAX {
            known.addresses.remove(0);
        }
        known.addresses.push(address);
    }

    /// Forget a peer: it is banned, of another network, or this node itself.
    pub fn forget(&mut self, peer: &PeerId) {
        self.known.remove(peer);
    }

    /// The dials that are due.
    pub fn due(
        &mut self,
        now: Instant,
        missing: usize,
        is_connected: impl Fn(&PeerId) -> bool,
        is_banned: impl Fn(&PeerId) -> bool,
    ) -> Vec<Dial> {
        let mut dials = Vec::new();
        for (index, anchor) in self.anchors.iter_mut().enumerate() {
            let wanted = !anchor.own && !anchor.met.is_some_and(|peer| is_connected(&peer) || is_banned(&peer));
            if wanted && anchor.attempt.due(now) && dials.len() < DIALS_PER_ROUND {
                anchor.attempt.under_way = true;
                let addresses = vec![anchor.address.clone()];
                dials.push(Dial { target: Target::Anchor(index), peer: anchor.named, addresses });
            }
        }
        let mut due: Vec<(u32, PeerId)> = self
            .known
            .iter()
            .filter(|(peer, known)| {
                known.attempt.due(now) && !known.addresses.is_empty() && !is_connected(peer) && !is_banned(peer)
            })
            .map(|(peer, known)| (known.attempt.failures, *peer))
            .collect();
        due.sort_unstable_by_key(|(failures, _)| *failures);
        for (_, peer) in due.into_iter().take(missing.min(DIALS_PER_ROUND - dials.len())) {
            if let Some(known) = self.known.get_mut(&peer) {
                known.attempt.under_way = true;
                dials.push(Dial { target: Target::Known(peer), peer: Some(peer), addresses: known.addresses.clone() });
            }
        }
        dials
    }

    /// A dial has succeeded.
    pub fn succeeded(&mut self, target: Target, peer: PeerId, now: Instant) {
        match target {
            Target::Anchor(index) => {
                let anchor = &mut self.anchors[index];
                anchor.met = Some(peer);
                anchor.attempt = Attempt { failures: 0, next: Some(now + self.backoff.wait(0)), under_way: false };
            }
            Target::Known(_) | Target::Ticket(_) => {}
        }
        if let Some(known) = self.known.get_mut(&peer) {
            known.attempt = Attempt { failures: 0, next: Some(now + self.backoff.wait(0)), under_way: false };
        }
    }

    /// A dial has failed, or this node itself has answered.
    pub fn failed(&mut self, target: Target, own: bool, now: Instant) {
        let attempt = match target {
            Target::Anchor(index) => {
                let anchor = &mut self.anchors[index];
                anchor.own |= own;
                &mut anchor.attempt
            }
            Target::Known(peer) => {
                let Some(known) = self.known.get_mut(&peer) else { return };
                if own || known.attempt.failures >= FAILURES_MAX {
                    self.known.remove(&peer);
                    return;
                }
                &mut known.attempt
            }
            Target::Ticket(_) => return,
        };
        attempt.under_way = false;
        attempt.next = Some(now + self.backoff.wait(attempt.failures));
        attempt.failures += 1;
    }

    /// A peer is gone: it may be dialled again, soon and not at once.
    pub fn lost(&mut self, peer: &PeerId, now: Instant) {
        let next = Some(now + self.backoff.wait(0));
        if let Some(known) = self.known.get_mut(peer) {
            known.attempt = Attempt { next, ..Attempt::default() };
        }
        for anchor in self.anchors.iter_mut().filter(|anchor| anchor.met == Some(*peer)) {
            anchor.attempt = Attempt { next, ..Attempt::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { shortest: Duration::from_secs(1), longest: Duration::from_secs(60) };

    fn address(port: u16) -> Multiaddr {
        addresses::parse(&format!("/ip4/127.0.0.1/tcp/{port}")).unwrap()
    }

    fn due(dialer: &mut Dialer, now: Instant, missing: usize) -> Vec<Target> {
        dialer.due(now, missing, |_| false, |_| false).into_iter().map(|dial| dial.target).collect()
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        for (failures, seconds) in [(0, 1), (1, 2), (5, 32), (6, 60), (1000, 60)] {
            let (wait, middle) = (BACKOFF.wait(failures), Duration::from_secs(seconds));
            assert!((middle / 2..=middle * 3 / 2).contains(&wait), "{wait:?} after {failures}");
        }
    }

    #[test]
    fn a_bootstrap_address_is_dialled_for_ever_and_one_dial_at_a_time() {
        let mut dialer = Dialer::new(PeerId::random(), &[address(1)], BACKOFF);
        let mut now = Instant::now();
        for _ in 0..50 {
            assert_eq!(due(&mut dialer, now, 0), [Target::Anchor(0)]);
            assert_eq!(due(&mut dialer, now, 0), [], "one is under way");
            dialer.failed(Target::Anchor(0), false, now);
            assert_eq!(due(&mut dialer, now, 0), [], "too early");
            now += Duration::from_secs(91);
        }
    }

    #[test]
    fn this_node_is_not_dialled_again() {
        let own = PeerId::random();
        let mut dialer = Dialer::new(own, &[address(1), addresses::with_peer(&address(2), own)], BACKOFF);
        let now = Instant::now();
        assert_eq!(due(&mut dialer, now, 0), [Target::Anchor(0)], "the other one names this node");
        dialer.failed(Target::Anchor(0), true, now);
        assert_eq!(due(&mut dialer, now + Duration::from_secs(1000), 0), []);
    }

    #[test]
    fn known_peers_are_dialled_while_some_are_missing_and_forgotten_in_the_end() {
        let mut dialer = Dialer::new(PeerId::random(), &[], BACKOFF);
        let peer = PeerId::random();
        dialer.learn(peer, &address(1));
        let mut now = Instant::now();
        assert_eq!(due(&mut dialer, now, 0), []);
        for _ in 0..=FAILURES_MAX {
            assert_eq!(due(&mut dialer, now, 1), [Target::Known(peer)]);
            dialer.failed(Target::Known(peer), false, now);
            now += Duration::from_secs(91);
        }
        assert_eq!(due(&mut dialer, now, 1), []);
        assert!(dialer.known.is_empty());
    }

    #[test]
    fn the_connected_and_the_banned_are_left_alone() {
        let mut dialer = Dialer::new(PeerId::random(), &[], BACKOFF);
        let (connected, banned) = (PeerId::random(), PeerId::random());
        dialer.learn(connected, &address(1));
        dialer.learn(banned, &address(2));
        assert_eq!(dialer.due(Instant::now(), 9, |peer| *peer == connected, |peer| *peer == banned), []);
    }

    #[test]
    fn addresses_and_peers_are_bounded() {
        let mut dialer = Dialer::new(PeerId::random(), &[], BACKOFF);
        let peer = PeerId::random();
        for port in 1..100 {
            dialer.learn(peer, &address(port));
        }
        assert_eq!(dialer.known[&peer].addresses.len(), ADDRESSES_MAX);
        assert!(dialer.known[&peer].addresses.contains(&address(99)));
        for _ in 0..2 * KNOWN_MAX {
            dialer.learn(PeerId::random(), &address(1));
        }
        assert_eq!(dialer.known.len(), KNOWN_MAX);
    }
}
