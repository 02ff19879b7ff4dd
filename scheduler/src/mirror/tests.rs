use gilliam_model::{
    Timestamp,
    image::{Process, Shape},
    instance::Epoch,
    limits::Limits,
    name::ProcessName,
    placement::SlotRange,
    rules::PlacementRules,
    scale::Scale,
};
use gilliam_store::Write;
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};

use super::*;

/// A step of what users, the planner and operators do.
#[derive(Debug, Clone)]
enum Step {
    /// An app appears, or changes what it scales; `true` makes it anew, with other releases.
    App(usize, Option<u32>, bool),
    Destroy(usize),
    /// Slots of an app's release on a node; 0 removes them.
    Place(usize, u32, usize, u32),
    Node(usize, bool),
    Epoch(u64),
    /// An operator asks for a better spread, or that is done.
    Rebalance(bool),
    /// What no turn reads.
    Other,
    Follow,
}

const APPS: [&str; 3] = ["a", "a-b", "b"];
const NODES: [&str; 3] = ["n1", "n2", "n3"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let app = 0..APPS.len();
    let step = prop_oneof![
        3 => (app.clone(), proptest::option::of(1..4u32), any::<bool>())
            .prop_map(|(app, release, anew)| Step::App(app, release, anew)),
        1 => app.clone().prop_map(Step::Destroy),
        6 => (app, 1..4u32, 0..NODES.len(), 0..3u32)
            .prop_map(|(app, release, node, count)| Step::Place(app, release, node, count)),
        1 => (0..NODES.len(), any::<bool>()).prop_map(|(node, there)| Step::Node(node, there)),
        1 => any::<u64>().prop_map(Step::Epoch),
        1 => any::<bool>().prop_map(Step::Rebalance),
        1 => Just(Step::Other),
        4 => Just(Step::Follow),
    ];
    vec(step, 1..40)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("in range")
}

fn id(number: u32) -> ReleaseId {
    ReleaseId::new(std::num::NonZeroU32::new(number).expect("not zero"))
}

fn web() -> ProcessName {
    "web".parse().expect("name")
}

fn image(app: usize, number: u32) -> (Digest, Image) {
    let tag = u8::try_from(app * 10).expect("few") + u8::try_from(number % 2).expect("few");
    let digest = Digest::from_sha256([tag; 32]);
    let process = Process {
        component: digest,
        component_bytes: 1,
        shape: Shape::CommandP2,
        command: "web.wasm".into(),
        args: Vec::new(),
        limits: Limits::default(),
        allowed_outbound_hosts: Vec::new(),
        guard_pages: false,
        jobs: gilliam_model::queue::JobTerms::default(),
        uses: Default::default(),
        imports: None,
        placement: PlacementRules::default(),
    };
    (digest, Image::new([(web(), process)].into()))
}

fn release(app: usize, number: u32, anew: bool) -> Release {
    let mut config = gilliam_model::config::Config::default();
    let text = format!("{number} {anew}");
    let key = "KEY".parse().expect("a key");
    config.0.insert(key, text);
    Release {
        app: APPS[app].parse().expect("name"),
        id: id(number),
        image: image(app, number).0,
        config,
        limits: gilliam_model::overrides::Overrides::default(),
        author: "a".into(),
        message: String::new(),
        created_at: at(0),
        hook: None,
    }
}

/// An app with its releases and images: one commit.
fn writes_of_app(app: usize, scaled: Option<u32>, anew: bool) -> Vec<Write> {
    let mut record = App::new(APPS[app].parse().expect("name"), at(i64::from(anew)));
    record.latest = scaled.map(id);
    if let Some(number) = scaled {
        let mut scale = Scale::default();
        scale.set(web(), 3);
        record.scale = BTreeMap::from([(id(number), scale)]);
    }
    let mut writes = vec![records::put_app(&record)];
    for number in 1..4 {
        writes.push(records::put_release(&release(app, number, anew)));
    }
    for number in 1..3 {
        let (digest, image) = image(app, number);
        writes.push(records::put_image(&digest, &image));
    }
    writes
}

fn writes(step: &Step) -> Vec<Write> {
    match step {
        Step::App(app, scaled, anew) => writes_of_app(*app, *scaled, *anew),
        Step::Destroy(app) => vec![records::delete(keys::app(&APPS[*app].parse().expect("name")))],
        Step::Place(app, number, node, count) => {
            let range = SlotRange {
                first: 1,
                last: *count,
                epoch: Epoch(1),
            };
            vec![records::put_placement(&Placement {
                app: APPS[*app].parse().expect("name"),
                release: id(*number),
                process: web(),
                node: NODES[*node].parse().expect("name"),
                ranges: if *count == 0 { Vec::new() } else { vec![range] },
                leaving: Vec::new(),
            })]
        }
        Step::Node(node, there) => {
            let node = Node::new(NODES[*node].parse().expect("name"));
            let key = keys::node(&node.name);
            vec![if *there {
                records::put(key, &node)
            } else {
                records::delete(key)
            }]
        }
        Step::Epoch(epoch) => vec![records::put_epoch(Epoch(*epoch))],
        Step::Rebalance(asked) => {
            let key = keys::REBALANCE.to_string();
            vec![if *asked {
                records::put(key, &at(7))
            } else {
                records::delete(key)
            }]
        }
        Step::Other => vec![records::put("/tokens/x".to_string(), &1)],
        Step::Follow => Vec::new(),
    }
}

/// Everything that a turn sees of a state.
fn seen(state: &State) -> impl PartialEq + std::fmt::Debug {
    let apps: Vec<_> = state
        .apps
        .iter()
        .map(|(name, entry)| (name.clone(), entry.stored.clone(), entry.state.images.clone()))
        .collect();
    let placements: Vec<Placement> = state.placements.iter().collect();
    let assigned: Vec<_> = state
        .assigned
        .iter()
        .map(|(node, placed)| {
            (
                node.clone(),
                placed.iter().map(Placed::assigned).collect::<Vec<_>>(),
            )
        })
        .collect();
    (
        apps,
        placements,
        state.epoch.clone(),
        state.rebalance.clone(),
        state.nodes.clone(),
        assigned,
    )
}

#[test]
fn a_state_that_is_followed_is_the_one_that_is_read_whole() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("runtime");
    let config = ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    TestRunner::new(config)
        .run(&steps(), |steps| {
            runtime.block_on(follow(&steps));
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

async fn follow(steps: &[Step]) {
    let store = Store::memory();
    let mut mirror = Mirror::default();
    for step in steps {
        let writes = writes(step);
        if !writes.is_empty() {
            store.commit(&[], &writes).await.expect("commit");
            continue;
        }
        let before = (mirror.version(), mirror.revision);
        mirror.refresh(&store).await.expect("memory");
        let state = mirror.state();
        let mut whole = Mirror::default();
        whole.refresh(&store).await.expect("memory");
        let whole = whole.state();
        assert_eq!(seen(&state), seen(&whole), "{steps:?}");
        if before.1 == mirror.revision {
            assert_eq!(before.0, mirror.version(), "nothing changed");
        }
        assert_eq!(mirror.revision(), store.range("/none").await.expect("memory").0);
    }
}

#[tokio::test]
async fn what_is_given_out_stays_as_it_was() {
    let store = Store::memory();
    let mut mirror = Mirror::default();
    let commit = async |step: Step| store.commit(&[], &writes(&step)).await.expect("commit");
    commit(Step::App(0, Some(1), false)).await;
    commit(Step::Place(0, 1, 0, 2)).await;
    mirror.refresh(&store).await.expect("memory");
    let (before, version, routes) = (mirror.state(), mirror.version(), mirror.routes_version());
    let placed = before.placed_on(&NODES[0].parse().expect("name"));
    assert_eq!(placed.iter().map(Placed::count).sum::<u32>(), 2);
    commit(Step::Place(0, 1, 0, 1)).await;
    commit(Step::Place(0, 1, 1, 1)).await;
    mirror.refresh(&store).await.expect("memory");
    assert!(mirror.version() > version);
    assert_eq!(mirror.routes_version(), routes, "no app came or went");
    assert_eq!((before.assigned.len(), mirror.state().assigned.len()), (1, 2));
    assert!(
        Arc::ptr_eq(&before.apps, &mirror.state().apps),
        "what did not change is shared"
    );
    commit(Step::Destroy(0)).await;
    mirror.refresh(&store).await.expect("memory");
    assert!(mirror.routes_version() > routes);
    assert_eq!(mirror.take_gone(), [APPS[0].parse().expect("name")]);
    let state = mirror.state();
    assert!(state.assigned.is_empty(), "what is left of it is nobody's");
    assert_eq!(state.placements.records_count(), 2);
}

#[tokio::test]
async fn what_could_not_be_read_is_read_the_next_time() {
    let store = Store::memory();
    let mut mirror = Mirror::default();
    mirror.refresh(&store).await.expect("memory");
    let commit = async |writes: &[Write]| store.commit(&[], writes).await.expect("commit");
    let all = writes_of_app(0, Some(2), false);
    let key = keys::release(&APPS[0].parse().expect("name"), id(2));
    let damaged = Write::Put {
        key: key.clone(),
        value: b"{".to_vec(),
    };
    commit(&all).await;
    commit(&[damaged]).await;
    let error = mirror.refresh(&store).await.expect_err("damaged");
    assert!(error.to_string().contains(&key), "{error}");
    commit(&all).await;
    mirror.refresh(&store).await.expect("whole again");
    let state = mirror.state();
    assert_eq!(state.apps.values().next().expect("one").state.images.len(), 1);
}
