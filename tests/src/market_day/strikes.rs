//! How faults strike, and how they end.

use stallmesh_node::engine::Request;
use stallmesh_node::link::Channel;

use super::dice::Dice;
use super::fault::{Fault, Kind};
use super::truth::Device;
use super::{Day, Later};
use crate::simulation::Conditions;

impl Day {
    fn fired(&mut self, kind: Kind) {
        *self.fired.entry(kind).or_insert(0) += 1;
    }

    /// Whether a fault has anything to strike.
    fn is_up(&self, device: usize) -> bool {
        self.simulation.nodes[device].engine.is_some() && !self.truth.devices[device].gone
    }

    pub(super) fn strike(&mut self, fault: &Fault) {
        let Fault { device, other, strength, .. } = *fault;
        let mut dice = Dice::new(fault.seed, 4);
        let now = self.simulation.now;
        match fault.kind {
            Kind::Loss | Kind::Latency | Kind::Clog => return self.spoil_roads(fault, &mut dice),
            Kind::OneWay if device != other => self.simulation.network.silence(now, device, other),
            Kind::Partition => self.fall_apart(strength, &mut dice),
            Kind::Ferry => self.halve(device, true),
            Kind::Uplink if self.is_up(device) => self.simulation.uplink(device, false),
            Kind::Kill if self.is_up(device) => {
                self.simulation.kill(device);
                self.start_soon(device, &mut dice);
            }
            Kind::PowerCut | Kind::SecondCut if self.is_up(device) => {
                let Some(medium) = self.simulation.nodes[device].disk.medium() else { return };
                if dice.chance(50) {
                    // What was acknowledged a moment before is what must be there.
                    self.truth.devices[device].cut_at_sale = Some(dice.magnitude(1, 40));
                } else {
                    medium.cut_after(strength);
                }
                if fault.kind == Kind::SecondCut {
                    self.truth.devices[device].cut_again = Some(dice.magnitude(1, 60));
                }
            }
            Kind::FailedSync if self.is_up(device) => {
                if let Some(medium) = self.simulation.nodes[device].disk.medium() {
                    medium.fail_sync_after(strength);
                }
            }
            Kind::DiskFull if self.is_up(device) => {
                if let Some(medium) = self.simulation.nodes[device].disk.medium() {
                    medium.set_room(Some(strength));
                }
            }
            Kind::BitRot if self.is_up(device) && device != 0 => {
                self.simulation.kill(device);
                // Whether it hit something that counts, its next start will say.
                self.forget_word(device);
                if let Some(medium) = self.simulation.nodes[device].disk.medium() {
                    medium.rot(u32::try_from(strength).unwrap_or(1), || dice.roll());
                }
                self.start_soon(device, &mut dice);
            }
            Kind::LyingDisk if self.is_up(device) && device != 0 => {
                self.forget_word(device);
                if let Some(medium) = self.simulation.nodes[device].disk.medium() {
                    medium.lie(true);
                }
            }
            Kind::Rollback if self.is_up(device) => {
                let copy = self.simulation.nodes[device].disk.copy();
                self.truth.devices[device].copy = Some(copy);
            }
            Kind::Burned => self.burn_hub(&mut dice),
            Kind::Clone if self.is_up(device) && self.truth.devices[device].is_invited() => self.copy_machine(device),
            Kind::ClockOff => {
                self.truth.devices[device].clock_was_off = true;
                let off = i64::try_from(strength).unwrap_or(i64::MAX);
                self.simulation.nodes[device].clock_error = if fault.seed.is_multiple_of(2) { off } else { -off };
            }
            Kind::ClockStill => self.simulation.nodes[device].clock_stands_at = Some(self.simulation.opening_ms + now),
            Kind::Pause if self.is_up(device) => self.simulation.pause(device),
            Kind::Battery if self.is_up(device) => {
                let battery = u32::try_from(strength).unwrap_or(1);
                self.simulation.ask(device, Request::SetPower { battery, metered: false });
                let left = dice.magnitude(30_000, 60 * 60_000);
                self.later(left, Later::Gone(device));
            }
            Kind::Fork if self.is_up(device) && self.truth.devices[device].is_invited() => {
                if self.truth.devices[device].copied || self.truth.devices[device].forked {
                    return;
                }
                let second = self.simulation.fork_device(device);
                self.grow(second, device);
                // At once in half of them: then all but what they say is the same, their day keys, too.
                let first = if dice.chance(50) { 0 } else { dice.magnitude(10, 60_000) };
                for process in [device, second] {
                    self.later(first, Later::Sell(process));
                    (self.truth.devices[process].forked, self.truth.devices[process].dishonest) = (true, true);
                    self.forget_word(process);
                    for _ in 0..dice.between(1, 4) {
                        let after = dice.magnitude(10, 60_000);
                        self.later(after, Later::Sell(process));
                    }
                }
                // A third history, from an empty disk: it parts from the others at the first entry.
                if dice.chance(60) {
                    let after = dice.magnitude(60_000, 20 * 60_000);
                    self.later(after, Later::ForkAnew(second));
                }
            }
            Kind::Garbage | Kind::Replay | Kind::Flood | Kind::Withhold | Kind::ForgedAck | Kind::FalseCustody
                if self.is_up(device) =>
            {
                self.corrupt(fault.kind, device, dice);
            }
            Kind::Newer if self.is_up(device) => {
                self.simulation.tamper(device, |channel, mut frame| {
                    // Field 2047, three bytes: nobody knows it yet.
                    if channel != Channel::Join {
                        frame.extend_from_slice(&[0xfa, 0x7f, 3, 1, 2, 3]);
                    }
                    vec![(channel, frame)]
                });
            }
            Kind::Stranger if self.is_up(other) && other != 0 => self.intrude(other, &mut dice),
            Kind::TwoStories if self.is_up(other) && other != 0 && self.runs(0) => self.tell_another_story(other),
            Kind::Lies
                if self.is_up(device)
                    && self.is_up(other)
                    && other != 0
                    && device != other
                    && self.truth.devices[device].is_invited() =>
            {
                self.lie(device, other, &mut dice);
            }
            _ => return,
        }
        self.fired(fault.kind);
    }

    /// What the hub alone had is gone, its word with it; what others hold, the new one gets.
    fn burn_hub(&mut self, dice: &mut Dice) {
        self.forget_settlements(0);
        let old = self.simulation.burn_hub();
        self.truth.devices.resize_with(old + 1, Default::default);
        let wanted = Device { wanted: true, ..Device::default() };
        let burned = Device { gone: true, revoked: true, ..wanted.clone() };
        (self.truth.devices[0], self.truth.devices[old]) = (wanted, burned);
        self.start_soon(0, dice);
    }

    pub(super) fn cease(&mut self, fault: &Fault) {
        let Fault { device, other, .. } = *fault;
        let mut dice = Dice::new(fault.seed, 5);
        let now = self.simulation.now;
        match fault.kind {
            Kind::Loss | Kind::Latency | Kind::Clog => {
                self.simulation.network.usual = Conditions::default();
                self.simulation.network.set_conditions(device, other, None);
                self.simulation.network.set_conditions(other, device, None);
            }
            Kind::OneWay => self.simulation.network.unsilence(now, device, other),
            Kind::Partition => self.simulation.heal(),
            Kind::Ferry => self.halve(device, false),
            Kind::Uplink => self.simulation.uplink(device, true),
            Kind::DiskFull => {
                if let Some(medium) = self.simulation.nodes[device].disk.medium() {
                    medium.set_room(None);
                }
            }
            Kind::LyingDisk => {
                if let Some(medium) = self.simulation.nodes[device].disk.medium() {
                    self.simulation.kill(device);
                    self.forget_word(device);
                    medium.lose_unsynced(|| dice.roll());
                    medium.lie(false);
                    self.start_soon(device, &mut dice);
                }
            }
            Kind::Rollback => {
                let Some(copy) = self.truth.devices[device].copy.take() else { return };
                if !self.truth.devices[device].gone {
                    self.forget_settlements(device);
                    self.simulation.kill(device);
                    self.forget_word(device);
                    self.simulation.nodes[device].disk = copy;
                    self.start_soon(device, &mut dice);
                }
            }
            Kind::ClockOff => self.simulation.nodes[device].clock_error = 0,
            Kind::ClockStill => self.simulation.nodes[device].clock_stands_at = None,
            Kind::Pause => self.simulation.resume(device),
            Kind::Garbage | Kind::Replay | Kind::Flood | Kind::Withhold | Kind::ForgedAck | Kind::Newer => {
                // What it believes to have sent, it hasn't: its process begins anew.
                let lied = self.simulation.reform(device);
                if lied && self.is_up(device) {
                    self.simulation.kill(device);
                    self.start_soon(device, &mut dice);
                }
            }
            Kind::FalseCustody if self.is_up(device) => self.replace_disk(device),
            _ => {}
        }
    }

    fn start_soon(&mut self, device: usize, dice: &mut Dice) {
        self.truth.devices[device].starts = true;
        let after = dice.magnitude(100, 10 * 60_000);
        self.later(after, Later::Start(device));
    }

    fn spoil_roads(&mut self, fault: &Fault, dice: &mut Dice) {
        let Fault { device, other, strength, .. } = *fault;
        let everywhere = device == other || dice.chance(40);
        let mut conditions = Conditions::default();
        match fault.kind {
            Kind::Loss => conditions.loss_percent = strength,
            // All roads of a square aren't as slow as one satellite link.
            Kind::Latency => {
                conditions.latency_ms = if everywhere { strength.min(2_000) } else { strength };
                conditions.jitter_ms = conditions.latency_ms / 2;
            }
            _ => conditions.rate = Some(if everywhere { strength.max(2_000) } else { strength }),
        }
        if everywhere {
            self.simulation.network.usual = conditions;
        } else {
            self.simulation.network.set_conditions(device, other, Some(conditions));
            if dice.chance(70) {
                self.simulation.network.set_conditions(other, device, Some(conditions));
            }
        }
        self.fired(fault.kind);
    }

    fn fall_apart(&mut self, parts: u64, dice: &mut Dice) {
        let mut groups: Vec<Vec<usize>> = vec![Vec::new(); usize::try_from(parts).unwrap_or(2)];
        for node in 1..self.simulation.nodes.len() {
            let group = usize::try_from(dice.between(0, parts - 1)).unwrap_or(0);
            groups[group].push(node);
        }
        let groups: Vec<&[usize]> = groups.iter().map(Vec::as_slice).collect();
        self.simulation.partition(&groups);
    }

    fn halve(&mut self, walker: usize, here: bool) {
        // The same halves each time, whichever of them the walker is in.
        let mut halves = [Vec::new(), Vec::new()];
        for node in (1..self.simulation.nodes.len()).filter(|node| *node != walker) {
            halves[node % 2].push(node);
        }
        halves[usize::from(here)].push(walker);
        self.simulation.partition(&[&halves[0], &halves[1]]);
    }

    /// A node that plan and truth haven't known so far.
    fn grow(&mut self, index: usize, like: usize) {
        let mut state = self.truth.devices[like].clone();
        (state.copied, state.starts, state.gone, state.asked) = (true, false, false, 0);
        state.orders.clear();
        // Keys of its sales are its own.
        state.asked += 1_000_000 * (index as u64 + 1);
        state.lost_before = self.simulation.now + 1;
        self.truth.devices.resize_with(index + 1, Default::default);
        self.truth.devices[index] = state;
        self.truth.devices[like].copied = true;
    }

    fn copy_machine(&mut self, device: usize) {
        let copy = self.simulation.nodes[device].disk.copy();
        let second = self.simulation.clone_device(device, copy);
        self.grow(second, device);
        let id = self.simulation.nodes[device].id();
        // Which of the two said what it holds, nobody knows from here on.
        self.simulation.witness.release(&id);
        for after in [1_000, 20_000, 120_000] {
            self.later(after, Later::Sell(second));
            self.later(after + 500, Later::Sell(device));
        }
    }
}
