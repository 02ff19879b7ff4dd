//! Images that one server made are there for all nodes, whichever server is left.

use std::{process::Stdio, sync::atomic::Ordering::SeqCst};

use crate::{harness::Cluster, platform::wait, s3::S3, views::on};

#[test]
fn a_node_gets_an_image_although_the_server_that_built_it_is_gone() {
    let cluster = Cluster::start_on_etcd(1, 2, "2s");
    cluster.join("n1", "a");
    cluster.deploy(1);
    cluster.wait_all_run(1, &["n1"]);
    for server in ["s1", "s2"] {
        let own = cluster.path(server).join("images");
        assert!(!own.exists(), "{} is not where images are", own.display());
    }
    // Whichever of them built it, both can give it.
    for gone in ["s1", "s2"] {
        cluster.kill_server_named(gone);
        let (node, zone) = (format!("{gone}-gone"), format!("zone-{gone}"));
        cluster.join(&node, &zone);
        cluster.run(&["scale", "--app", "hello", "v1", "web=6"]).ok();
        cluster.wait_ps(&format!("some to run on {node}"), |rows| on(rows, &node) > 0);
        cluster.run(&["scale", "--app", "hello", "v1", "web=1"]).ok();
        cluster.start_server_named(gone);
        let present = if gone == "s1" { 2 } else { 3 };
        cluster.wait_ready_at(gone, present);
    }
}

#[test]
fn a_server_with_images_of_its_own_does_not_join_others() {
    let cluster = Cluster::start_on_etcd(1, 1, "2s");
    let store = cluster.etcd().url("test");
    let data = cluster.path("alone").display().to_string();
    let mut child = cluster
        .command(&[
            "server",
            "--api",
            "127.0.0.1:0",
            "--data",
            &data,
            "--store",
            &store,
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("gilliam server");
    wait("the server to end", || child.try_wait().expect("wait"));
    let ended = child.wait_with_output().expect("output");
    let (said, why) = (
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr),
    );
    assert_eq!((ended.status.code(), said.as_ref()), (Some(1), ""), "{why}");
    for wanted in [
        "alone/images",
        "it holds none",
        "hint: ",
        "--blobs",
        "--adopt-blobs",
    ] {
        assert!(why.contains(wanted), "{wanted:?}: {why}");
    }
}

#[test]
fn a_bucket_holds_the_images_of_a_cluster_and_a_server_needs_nothing_else() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("runtime");
    let root = tempfile::tempdir().expect("folder");
    let bucket = runtime.block_on(S3::start(root.path()));
    let place = format!("s3://images/production?endpoint=http://{}", bucket.address);
    let cluster = Cluster::start_with("2s", &["--blobs", &place]);
    cluster.join("n1", "a");
    cluster.deploy(1);
    cluster.wait_all_run(1, &["n1"]);
    // The mark, what was written to try, and the blobs.
    let blobs = bucket.folder().join("production/blobs/sha256");
    let count = std::fs::read_dir(&blobs).expect("blobs").count();
    assert!(
        count >= 3,
        "a component, its image's config and manifest: {count}"
    );
    // On another machine, as it were.
    cluster.stop_server_named("s1");
    std::fs::remove_dir_all(cluster.path("s1").join("cache")).expect("the cache");
    cluster.start_server_named("s1");
    cluster.wait_ready_at("s1", 1);
    let before = bucket.conduct.reads.load(SeqCst);
    cluster.join("n2", "b");
    cluster.join("n3", "c");
    cluster.run(&["scale", "--app", "hello", "v1", "web=6"]).ok();
    cluster.wait_ps("some to run on each", |rows| {
        ["n2", "n3"].iter().all(|node| on(rows, node) > 0)
    });
    assert_eq!(bucket.conduct.reads.load(SeqCst) - before, 1, "for two nodes");
}
