//! How placement rules see the nodes: which they allow, how they score them, in which domain each is.
//!
//! Rules are asked of every node once in a plan, not once for every group that has them.

use std::{collections::BTreeMap, rc::Rc};

use gilliam_model::rules::{PlacementRules, Spread};

use crate::{node::Node, snapshot::NodeState};

/// Most views kept at once: rules that differ from app to app would fill the memory, at nine bytes for each
/// node and rule.
const VIEWS_MAX: usize = 256;

/// The nodes, by their places, as one set of rules sees them.
#[derive(Debug)]
pub(crate) struct View {
    /// Whether it meets every requirement; empty when there are none.
    allowed: Vec<bool>,
    /// The sum of the weights of ranks that it meets; empty when there are none.
    scores: Vec<i32>,
    /// The domain it is in; empty when there is one.
    domains: Vec<u32>,
    /// How many domains there are.
    pub(crate) domains_count: usize,
}

impl View {
    fn of(rules: &PlacementRules, nodes: &[Node<'_>]) -> Self {
        let states = || nodes.iter().map(|node| node.state);
        let allows = |node: &NodeState| rules.require.iter().all(|r| r.holds(&node.name, &node.labels));
        let score = |node: &NodeState| {
            let met = rules
                .rank
                .iter()
                .filter(|(r, _)| r.holds(&node.name, &node.labels));
            met.map(|(_, weight)| *weight).sum()
        };
        let allowed = if rules.require.is_empty() {
            Vec::new()
        } else {
            states().map(allows).collect()
        };
        let scores = if rules.rank.is_empty() {
            Vec::new()
        } else {
            states().map(score).collect()
        };
        let (domains, domains_count) = domains(&rules.spread, nodes);
        Self {
            allowed,
            scores,
            domains,
            domains_count,
        }
    }

    pub(crate) fn allows(&self, place: usize) -> bool {
        self.allowed.get(place).copied().unwrap_or(true)
    }

    pub(crate) fn score(&self, place: usize) -> i32 {
        self.scores.get(place).copied().unwrap_or(0)
    }

    pub(crate) fn has_scores(&self) -> bool {
        !self.scores.is_empty()
    }

    pub(crate) fn domain(&self, place: usize) -> usize {
        self.domains.get(place).map_or(0, |domain| *domain as usize)
    }
}

/// The domain of each node, and how many there are; nodes without the label are one more.
fn domains(spread: &Spread, nodes: &[Node<'_>]) -> (Vec<u32>, usize) {
    let key = match spread {
        Spread::Over(key) if !key.is_node() => key,
        Spread::Over(_) | Spread::Nodes | Spread::None => return (Vec::new(), 1),
    };
    let mut numbers = BTreeMap::new();
    let domain = |node: &Node<'_>| {
        let next = u32::try_from(numbers.len()).expect("fewer domains than nodes");
        *numbers.entry(node.state.labels.get(key).cloned()).or_insert(next)
    };
    let domains: Vec<u32> = nodes.iter().map(domain).collect();
    match numbers.len() {
        0 | 1 => (Vec::new(), 1),
        count => (domains, count),
    }
}

/// The views that a plan has needed so far.
#[derive(Debug, Default)]
pub(crate) struct Views<'a> {
    by_rules: BTreeMap<&'a PlacementRules, Rc<View>>,
}

impl<'a> Views<'a> {
    pub(crate) fn of(&mut self, rules: &'a PlacementRules, nodes: &[Node<'_>]) -> Rc<View> {
        if let Some(view) = self.by_rules.get(rules) {
            return view.clone();
        }
        if self.by_rules.len() >= VIEWS_MAX {
            self.by_rules.clear();
        }
        let view = Rc::new(View::of(rules, nodes));
        self.by_rules.insert(rules, view.clone());
        view
    }
}
