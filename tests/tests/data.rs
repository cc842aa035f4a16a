//! Data readers: every form of the field, its oddities, and errors that name file and line.

use std::path::PathBuf;

use tributary::data::{Dataset, Split, SplitRule};
use tributary_tests::folder::Folder;

/// A file of the test material, if this machine has it.
fn shared(path: &str) -> Option<PathBuf> {
    tributary_tests::shared().map(|folder| folder.join(path))
}

fn read(folder: &Folder, name: &str, text: &str) -> tributary_core::Result<Dataset> {
    Dataset::read(&folder.write(name, text))
}

/// `user: item item ...` per user, with raw ids.
fn sequences(data: &Dataset) -> Vec<String> {
    let id = |&item: &u32| data.catalogue.items()[item as usize].id.to_string();
    let line = |user: &tributary::data::UserSequence| {
        format!("{}: {}", user.user, user.items.iter().map(id).collect::<Vec<_>>().join(" "))
    };
    data.users.iter().map(line).collect()
}

#[test]
fn every_form_gives_the_same_sequences() {
    let folder = Folder::new("forms");
    let expected = ["1: 10 30 20", "2: 20 10"];
    for (name, text) in [
        (
            "a.inter",
            "user_id:token\titem_id:token\trating:float\ttimestamp:float\n\
             1\t10\t5\t100\n2\t20\t1\t50\n1\t20\t3\t300\n1\t30\t3\t200.5\n2\t10\t2\t60\n",
        ),
        (
            "b.csv",
            "userId,movieId,rating,timestamp\n1,10,5,100\n2,20,1,50\n1,20,3,300\n1,30,3,200\n2,10,2,60\n",
        ),
        (
            "c.tsv",
            "timestamp\tuser\titem\n100\t1\t10\n50\t2\t20\n300\t1\t20\n200\t1\t30\n60\t2\t10\n",
        ),
        ("d.txt", "1 10 30 20\n2 20 10\n"),
        ("e.tsv", "user\titems\ttimestamps\n1\t10 30 20\t1 2 3\n2\t20 10\t5 5\n"),
        ("f.tsv", "user\titems\n1\t10 30 20\n2\t20 10\n"),
        (
            "g.jsonl",
            "{\"user\": 1, \"item\": 10, \"time\": 1}\n{\"user\": 2, \"item\": \"20\", \"time\": 1}\n\
             {\"user\": \"1\", \"item\": 20, \"time\": 9}\n{\"user\": 1, \"item\": 30, \"time\": 2}\n\
             {\"user\": 2, \"item\": 10, \"time\": 2}\n",
        ),
    ] {
        let data = read(&folder, name, text).unwrap();
        assert_eq!(sequences(&data), expected, "{name}");
        assert_eq!((data.name.as_str(), data.split), (name, SplitRule::LeaveOneOut));
    }
}

#[test]
fn text_comes_with_marks_returns_and_quotes() {
    let folder = Folder::new("oddities");
    let text = "\u{feff}\"user_id\",item_id,timestamp,event\r\n\"a, b\",\"x\"\"y\",1,view\r\n\"a, b\",z,2,buy\r\n";
    let data = read(&folder, "a.csv", text).unwrap();
    assert_eq!(sequences(&data), ["a, b: x\"y z"]);
    assert_eq!(data.behaviours, ["view", "buy"]);
    assert_eq!(data.users[0].behaviours, [0, 1]);
    let text = "\u{feff}user_id:token\titem_id:token\r\n1\tsaid \"so\r\n1\tb\r\n";
    assert_eq!(sequences(&read(&folder, "b.inter", text).unwrap()), ["1: said \"so b"]);
    let data = read(&folder, "c.txt", "\u{feff}1 2 3\r\n\r\n4 5 6\r\n").unwrap();
    assert_eq!(sequences(&data), ["1: 2 3", "4: 5 6"]);
}

#[test]
fn ties_in_time_keep_the_order_of_the_file() {
    let folder = Folder::new("ties");
    let text = "user,item,time\nu,a,2\nu,b,1\nu,c,2\nu,d,1\nu,e,2\n";
    let data = read(&folder, "a.csv", text).unwrap();
    assert_eq!(sequences(&data), ["u: b d a c e"]);
    assert_eq!(data.users[0].times, [1.0, 1.0, 2.0, 2.0, 2.0]);
}

#[test]
fn the_last_item_is_for_testing_and_the_one_before_for_validation() {
    let folder = Folder::new("split");
    let data = read(&folder, "a.txt", "1 5 6 7 8\n2 5 6\n3 6 7 8\n").unwrap();
    let index = |id: &str| data.catalogue.index_of(&id.into()).unwrap();
    let [five, six, seven, eight] = ["5", "6", "7", "8"].map(index);
    let cases = |split| -> Vec<_> {
        data.cases(split).iter().map(|c| (c.user, c.history.to_vec(), c.target)).collect()
    };
    let test = [(0, vec![five, six, seven], eight), (2, vec![six, seven], eight)];
    assert_eq!(cases(Split::Test), test, "two items cannot be split");
    assert_eq!(cases(Split::Valid), [(0, vec![five, six], seven), (2, vec![six], seven)]);
    assert_eq!(data.training(), [&[five, six][..], &[five, six], &[six]]);
    assert_eq!(data.popularity(), [2, 3, 0, 0]);
    assert_eq!((Split::parse("valid"), Split::parse("train")), (Some(Split::Valid), None));
}

#[test]
fn repeats_can_be_left_out_with_their_behaviours_and_times() {
    let folder = Folder::new("repeats");
    let text =
        "user,item,behaviour,time\nu,a,view,1\nu,b,view,2\nu,a,buy,3\nu,c,view,4\nv,a,view,1\n";
    let data = read(&folder, "a.csv", text).unwrap().without_repeats();
    assert_eq!(sequences(&data), ["u: a b c", "v: a"]);
    assert_eq!(data.users[0].times, [1.0, 2.0, 4.0]);
    assert_eq!(data.users[0].behaviours, [0, 0, 0]);
    let untimed = read(&folder, "b.txt", "1 4 4 5\n").unwrap().without_repeats();
    assert_eq!(sequences(&untimed), ["1: 4 5"]);
}

#[test]
fn windows_are_cases_as_somebody_split_them() {
    let folder = Folder::new("windows");
    let text = "{\"seq\": [[4, 5], [2, 1], [3, 3], [9, 0], [9, 0]], \"len_seq\": 3, \"next\": [7, 2]}\n\
                {\"seq\": [[4, 5], [2, 1], [9, 0], [9, 0], [9, 0]], \"len_seq\": 2, \"next\": [7, 2]}\n\
                {\"seq\": [1, 2, 3, 4, 9], \"len_seq\": 4, \"next\": 5}\n";
    let data = read(&folder, "a.jsonl", text).unwrap();
    assert_eq!(data.split, SplitRule::Given);
    assert_eq!(sequences(&data), ["1: 4 2 3 7", "3: 1 2 3 4 5"]);
    assert_eq!(data.cases(Split::Test), data.cases(Split::Valid));
    assert_eq!(data.cases(Split::Test)[0].history.len(), 3);
}

#[test]
fn a_folder_is_its_one_data_file_and_catalogue() {
    let folder = Folder::new("folder");
    let error = Dataset::read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("exactly one data file"), "{error}");
    folder.write("ratings.csv", "user,item\n1,b\n1,a\n");
    assert_eq!(sequences(&Dataset::read(folder.path()).unwrap()), ["1: b a"]);
    folder.write("catalogue.jsonl", "{\"id\": \"a\", \"title\": \"A\"}\n{\"id\": \"z\"}\n");
    let data = Dataset::read(folder.path()).unwrap();
    let ids: Vec<_> = data.catalogue.items().iter().map(|item| item.id.as_str()).collect();
    assert_eq!(ids, ["a", "z", "b"], "the catalogue's order, then new items");
    assert_eq!(data.catalogue.items()[0].title, "A");
    folder.write("more.txt", "1 2 3\n");
    let error = Dataset::read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("more.txt, ratings.csv"), "{error}");
    folder.write("x.inter", "user_id:token\titem_id:token\n1\tq\n");
    folder.write("x.item", "item_id:token\ttitle:token_seq\tcolour:token\nq\tA queue\tred\n");
    std::fs::remove_file(folder.path().join("catalogue.jsonl")).unwrap();
    let data = Dataset::read(folder.path()).unwrap();
    assert_eq!(
        (data.name.as_str(), data.catalogue.items()[0].title.as_str()),
        ("x.inter", "A queue")
    );
    assert_eq!(data.catalogue.items()[0].attributes["colour"], "red");
}

#[test]
fn malformed_files_are_named_with_their_line() {
    let folder = Folder::new("malformed");
    for (name, text, says) in [
        ("a.inter", "user_id:token\titem_id:token\n1\t2\n3\n", "line 3: expected 2 columns"),
        (
            "a.inter",
            "user_id:token\titem_id:token\ttimestamp:float\n1\t2\tx\n",
            "line 2: expected a time",
        ),
        ("a.inter", "user_id\titem_id\n1\t2\n", "line 1: expected RecBole columns"),
        ("a.inter", "session_id:token\titem_id_list:token_seq\n1\t2 3\n", "a column for the item"),
        ("a.inter", "", "line 1"),
        ("b.csv", "user,title\n1,2\n", "line 1: expected a column for the item"),
        ("b.csv", "user,item\n", "at least one interaction"),
        ("b.csv", "user,item\n1,\n", "line 2: expected a value for the item"),
        ("b.csv", "user,item,time\n1,2,inf\n", "line 2: expected a time"),
        ("b.csv", "user,item\n1,2\n1,2,3\n", "line 3: expected 2 columns"),
        ("c.txt", "1 2 3\n4 x 5\n", "line 2: expected a user and items"),
        ("c.txt", "7\n", "line 1"),
        ("c.txt", "hello world\n", "line 1: expected RecBole columns, a CSV"),
        ("d.jsonl", "{\"user\": 1, \"item\": 2}\n{\"user\": 1}\n", "line 2"),
        ("d.jsonl", "{\"seq\": [1, 2], \"len_seq\": 3, \"next\": 1}\n", "`len_seq` at most 2"),
        (
            "d.jsonl",
            "{\"user\": 1, \"item\": 2}\n{\"user\": 1, \"item\": 2, \"time\": 3}\n",
            "line 2",
        ),
        ("e.tsv", "user\titems\ttimestamps\n1\t2 3\t4\n", "line 2: expected 2 timestamps"),
        ("e.tsv", "user\titems\n1\n", "line 2: expected 2 columns"),
    ] {
        let error = read(&folder, name, text).unwrap_err().to_string();
        assert!(error.contains(says) && error.starts_with(name), "{name} {text:?}: {error}");
    }
    let path = folder.write("f.csv", b"user,item\n1,2\n1,\xff\n");
    let error = Dataset::read(&path).unwrap_err().to_string();
    assert!(error.contains("line 3: expected UTF-8"), "{error}");
    let error = Dataset::read(&folder.path().join("missing.csv")).unwrap_err();
    assert!(error.to_string().contains("missing.csv"), "{error}");
    folder.write("g.inter", "user_id:token\titem_id:token\n1\t2\n");
    for (text, says) in [
        ("item_id:token\tprice:float\n1\tx\n", "line 2: expected a price"),
        ("item_id:token\n1\n1\n", "line 3: expected an id not seen"),
        ("title:token_seq\nA\n", "line 1: expected a column `item_id:token`"),
    ] {
        folder.write("g.item", text);
        let error = Dataset::read(&folder.path().join("g.inter")).unwrap_err().to_string();
        assert!(error.contains(says) && error.starts_with("g.item"), "{text:?}: {error}");
    }
}

#[test]
fn public_data_sets_have_their_published_sizes() {
    for (path, users, items, interactions) in [
        ("data/ml-latest-small/ratings.csv", 610, 9_724, 100_836),
        ("data/amazon-beauty/sequences.tsv", 22_332, 12_086, 198_215),
        ("weights/iclrec-beauty/Beauty.txt", 22_363, 12_101, 198_502),
    ] {
        let Some(path) = shared(path) else { return };
        let data = Dataset::read(&path).unwrap();
        let found = (data.users.len(), data.catalogue.len(), data.interactions());
        assert_eq!(found, (users, items, interactions), "{path:?}");
    }
    let Some(folder) = shared("data/amazon-beauty") else { return };
    assert_eq!(Dataset::read(&folder).unwrap().users.len(), 22_332, "the folder's one data file");
}
