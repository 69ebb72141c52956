//! The part of the swarm's task that knows peers: who is connected, banned, to be dialled, and what they are worth.

use std::sync::atomic::Ordering;
use std::time::Duration;

use libp2p_core::{ConnectedPoint, Multiaddr};
use libp2p_identity::PeerId;
use libp2p_swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p_swarm::{ConnectionId, DialError};
use tokio::time::Instant;

use crate::addresses;
use crate::dialer::{Dial, Target};
use crate::events::{Event, Failure, FailureKind, Notice, NoticeKind};
use crate::gossip::Verdict;
use crate::service::{Service, TOLD_MAX};
use crate::view::{Ban, PeerView, count};

/// Bans that are kept; the one that ends first makes room.
const BANS_MAX: usize = 4096;
/// A peer of another network is left alone for this long.
const FOREIGN_BAN: Duration = Duration::from_secs(60);

impl Service {
    pub(crate) fn on_connected(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        endpoint: &ConnectedPoint,
        first: bool,
    ) {
        let (now, address) = (Instant::now(), addresses::bare(endpoint.get_remote_address()));
        if endpoint.is_dialer() {
            self.dialer.learn(peer, &address);
        }
        if first {
            let view = PeerView {
                peer,
                address: address.clone(),
                listens: Vec::new(),
                outbound: endpoint.is_dialer(),
                agent: String::new(),
                protocols: Vec::new(),
                score: 0.0,
                round_trip: None,
                since: std::time::Instant::now(),
            };
            self.view.lock().peers.insert(peer, view);
            let score = self.standings.of(peer).score(now);
            self.swarm.behaviour_mut().gossip.set_application_score(&peer, score);
            self.notice(NoticeKind::Connected, peer, Some(address), String::new());
        }
        if let Some(target) = self.dials.remove(&connection) {
            self.dialer.succeeded(target, peer, now);
            if let Target::Ticket(ticket) = target {
                self.events.push(Event::Outcome { ticket, result: Ok(peer.to_base58().into_bytes()) });
            }
        }
    }

    pub(crate) fn on_disconnected(&mut self, peer: PeerId, reason: String) {
        let address = self.view.lock().peers.remove(&peer).map(|view| view.address);
        self.slots.forget(&peer);
        self.rooms.forget(&peer);
        self.asking.forget(&peer);
        for places in self.streams.values_mut() {
            places.theirs.forget(&peer);
            places.own.forget(&peer);
        }
        self.dialer.lost(&peer, Instant::now());
        self.notice(NoticeKind::Disconnected, peer, address, reason);
    }

    pub(crate) fn on_identified(&mut self, peer: PeerId, info: libp2p_identify::Info) {
        if info.protocol_version != self.config.network {
            let reason =
                format!("it is of the network {:?}, not {:?}", clean(&info.protocol_version), self.config.network);
            self.ban(peer, FOREIGN_BAN, reason);
            return;
        }
        let mut seen = self.view.lock();
        let Some(view) = seen.peers.get_mut(&peer) else { return };
        let first = view.agent.is_empty();
        view.agent = clean(&info.agent_version);
        view.protocols = info.protocols.iter().take(TOLD_MAX).map(|protocol| clean(protocol.as_ref())).collect();
        view.listens = info
            .listen_addrs
            .into_iter()
            .take(TOLD_MAX)
            .filter(|address| addresses::check(address).is_ok() && addresses::believable(address, &view.address))
            .collect();
        let (listens, address) = (view.listens.clone(), view.address.clone());
        drop(seen);
        for told in &listens {
            self.dialer.learn(peer, told);
        }
        if first {
            self.notice(NoticeKind::Identified, peer, Some(address), String::new());
        }
    }

    pub(crate) fn on_tick(&mut self, scores: bool) {
        let now = Instant::now();
        while let Some(handle) = self.pending.expired(now) {
            if let Some((id, source)) = self.pending.take(handle) {
                count(&self.view.statistics.messages_expired);
                self.report(&id, &source, Verdict::Ignore);
            }
        }
        self.view.statistics.messages_pending.store(self.pending.len() as u64, Ordering::Relaxed);
        let over: Vec<PeerId> = {
            let seen = self.view.lock();
            seen.bans.values().filter(|ban| ban.until <= now.into_std()).map(|ban| ban.peer).collect()
        };
        for peer in over {
            self.unban(peer);
        }
        if scores {
            self.refresh_scores(now);
        }
        let missing = self.config.peers_wanted.saturating_sub(self.view.lock().peers.len());
        let (swarm, view) = (&self.swarm, &self.view);
        let dials = {
            let seen = view.lock();
            self.dialer.due(now, missing, |peer| swarm.is_connected(peer), |peer| seen.bans.contains_key(peer))
        };
        for dial in dials {
            self.dial(dial);
        }
    }

    /// Write the scores to the view; let go of those who never said who they are.
    fn refresh_scores(&mut self, now: Instant) {
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        let patience = Duration::from_secs_f64(self.config.limits.handshake_seconds);
        for peer in peers {
            let own = self.standings.of(peer).score(now);
            let gossip = &mut self.swarm.behaviour_mut().gossip;
            gossip.set_application_score(&peer, own);
            let score = gossip.peer_score(&peer).unwrap_or(own);
            let silent = {
                let mut seen = self.view.lock();
                seen.peers.get_mut(&peer).is_some_and(|view| {
                    view.score = score;
                    view.agent.is_empty() && view.since.elapsed() > patience
                })
            };
            if silent {
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            self.ban_if_deserved(peer, "its score fell too low");
        }
    }

    pub(crate) fn score(&mut self, peer: PeerId, delta: f64, reason: &str) {
        let score = self.standings.of(peer).change(delta, Instant::now());
        self.swarm.behaviour_mut().gossip.set_application_score(&peer, score);
        self.ban_if_deserved(peer, reason);
    }

    pub(crate) fn ban_if_deserved(&mut self, peer: PeerId, reason: &str) {
        let own = self.standings.of(peer).score(Instant::now());
        let score = self.swarm.behaviour().gossip.peer_score(&peer).unwrap_or(own);
        if score <= self.config.ban_score {
            let time = Duration::from_secs_f64(self.config.ban_seconds);
            self.ban(peer, time, format!("{reason} (score {score:.0})"));
        }
    }

    pub(crate) fn ban(&mut self, peer: PeerId, time: Duration, reason: String) {
        let until = std::time::Instant::now() + time;
        let known = {
            let mut seen = self.view.lock();
            if seen.bans.len() >= BANS_MAX && !seen.bans.contains_key(&peer) {
                let first = seen.bans.values().min_by_key(|ban| ban.until).map(|ban| ban.peer);
                if let Some(first) = first {
                    seen.bans.remove(&first);
                    self.swarm.behaviour_mut().bans.unblock_peer(first);
                }
            }
            seen.bans.insert(peer, Ban { peer, until, reason: reason.clone() }).is_some()
        };
        self.swarm.behaviour_mut().bans.block_peer(peer);
        // When it comes back, it is not banned again for what it was banned for.
        self.standings.pardon(&peer);
        self.dialer.forget(&peer);
        if !known {
            count(&self.view.statistics.bans);
            self.notice(NoticeKind::Banned, peer, None, reason);
        }
    }

    pub(crate) fn unban(&mut self, peer: PeerId) {
        let known = self.view.lock().bans.remove(&peer).is_some();
        if known {
            self.swarm.behaviour_mut().bans.unblock_peer(peer);
            self.notice(NoticeKind::Unbanned, peer, None, String::new());
        }
    }

    fn notice(&self, kind: NoticeKind, peer: PeerId, address: Option<Multiaddr>, reason: String) {
        self.events.push(Event::Peer(Notice { kind, peer, address, reason }));
    }

    // ------------------------------------------------------------ dials

    pub(crate) fn dial(&mut self, dial: Dial) {
        // From a port of its own: where both dialled from the ports they listen on, two who dial each other at once would
        // share one TCP connection, of which each believes to be the caller.
        let options = match dial.peer {
            Some(peer) => DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(dial.addresses)
                .allocate_new_port()
                .build(),
            None => match dial.addresses.into_iter().next() {
                Some(address) => DialOpts::unknown_peer_id().address(address).allocate_new_port().build(),
                None => return,
            },
        };
        let connection = options.connection_id();
        self.dials.insert(connection, dial.target);
        if let Err(error) = self.swarm.dial(options) {
            self.dials.remove(&connection);
            self.on_dial_failed(dial.target, &error);
        }
    }

    pub(crate) fn on_dial_failed(&mut self, target: Target, error: &DialError) {
        count(&self.view.statistics.dials_failed);
        // The swarm takes the addresses that it listens on itself out of those to be dialled.
        let own = matches!(error, DialError::LocalPeerId { .. } | DialError::NoAddresses);
        self.dialer.failed(target, own, Instant::now());
        if let Target::Ticket(ticket) = target {
            let failure = Failure::new(FailureKind::Dial, said(error));
            self.events.push(Event::Outcome { ticket, result: Err(failure) });
        }
    }
}

/// Why a dial failed, in one sentence.
fn said(error: &DialError) -> String {
    match error {
        DialError::LocalPeerId { .. } | DialError::NoAddresses => "this node itself answers there".to_owned(),
        DialError::WrongPeerId { obtained, .. } => format!("another peer answers there: {obtained}"),
        DialError::DialPeerConditionFalse(_) => "it is connected, or being dialled already".to_owned(),
        DialError::Denied { cause } => cause.to_string(),
        DialError::Transport(errors) => errors.first().map_or_else(
            || "no address was tried".to_owned(),
            |(address, error)| {
                let mut cause: &dyn std::error::Error = error;
                while let Some(source) = cause.source() {
                    cause = source;
                }
                format!("{}: {cause}", addresses::bare(address))
            },
        ),
        other => other.to_string(),
    }
}

/// What a peer says of itself, fit for a log.
fn clean(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(128).collect()
}
