//! Public data sets in the project's form: what is kept, how it is named, and what bad files and
//! large ones do.

use std::path::Path;
use std::process::Command;

use tributary::data::{Dataset, Split, prepare_movielens, prepare_recbole, prepare_shop};
use tributary_tests::folder::Folder;
use tributary_tests::shared;

/// A byte order mark, CRLF line ends, quotes with commas and quotes in them; one film without a
/// title, one that nobody rated.
const MOVIES: &str = "\u{feff}movieId,title,genres\r\n\
    1,Toy Story (1995),Adventure|Animation\r\n\
    2,\"City of Lost Children, The (Cité des enfants perdus, La) (1995)\",Fantasy\r\n\
    3,\"\"\"Great Performances\"\" Cats (1998)\",(no genres listed)\r\n\
    4,,Drama\r\n\
    5,\"Affair, An\",Drama\r\n";

fn ratings() -> String {
    let mut text = "\u{feff}userId,movieId,rating,timestamp\r\n".to_string();
    // Two at one moment, not in the order of their numbers; then the others, the last one first.
    text += "7,3,4.0,100\r\n7,1,2.5,100\r\n7,4,5.0,101\r\n7,2,3.5,300\r\n7,5,3.0,200\r\n";
    text += "8,1,4.5,100\r\n8,2,0.5,101\r\n8,3,3,102\r\n9,2,4,5\r\n";
    text
}

fn movielens(movies: &str, ratings: &str) -> Folder {
    let folder = Folder::new("movielens");
    folder.write("movies.csv", movies);
    folder.write("ratings.csv", ratings);
    folder
}

#[test]
fn movielens_becomes_behaviours_clean_titles_and_pictures() {
    let source = movielens(MOVIES, &ratings());
    std::fs::create_dir(source.path().join("posters")).unwrap();
    source.write("posters/1.jpg", b"a poster");
    let out = Folder::new("prepared");
    let prepared = prepare_movielens(source.path(), out.path(), Some(2)).unwrap();
    // User 9 and film 5 have too few, film 4 no title.
    assert_eq!((prepared.users, prepared.items, prepared.interactions), (2, 3, 6));
    assert_eq!(prepared.left_out, 3);
    assert_eq!((prepared.pictures, prepared.missing_pictures), (1, 0));
    let data = Dataset::read(out.path()).unwrap();
    let titles: Vec<_> = data.catalogue.items().iter().map(|item| item.title.as_str()).collect();
    assert_eq!(
        titles,
        [
            "Toy Story (1995)",
            "The City of Lost Children (1995)",
            "\"Great Performances\" Cats (1998)"
        ]
    );
    let first = &data.catalogue.items()[0];
    assert_eq!(first.description.as_deref(), Some("Genres: Adventure, Animation."));
    assert_eq!(first.image.as_deref(), Some("1.jpg"));
    assert_eq!(data.catalogue.items()[2].description, None);
    assert_eq!(std::fs::read(out.path().join("images/1.jpg")).unwrap(), b"a poster");
    let of = |user: usize| -> Vec<(String, &str)> {
        let sequence = &data.users[user];
        let pairs = sequence.items.iter().zip(&sequence.behaviours);
        let name = |&behaviour: &u16| data.behaviours[usize::from(behaviour)].as_str();
        pairs.map(|(&item, behaviour)| (data.catalogue.name(item), name(behaviour))).collect()
    };
    let expected = [("1", "dislike"), ("3", "like"), ("2", "neutral")];
    assert_eq!(of(0), expected.map(|(id, name)| (id.to_string(), name)), "ties by number");
    let expected = [("1", "like"), ("2", "dislike"), ("3", "neutral")];
    assert_eq!(of(1), expected.map(|(id, name)| (id.to_string(), name)));
    let mut liked = data.clone();
    liked.hold_out("like").unwrap();
    let cases = liked.cases(Split::Test);
    assert_eq!(cases.len(), 1, "user 8 has nothing before the film they like");
    assert_eq!((cases[0].history, cases[0].target), (&[0][..], 2));
    let card = std::fs::read_to_string(out.path().join("README.md")).unwrap();
    assert!(card.contains("2 users, 3 items, 6 interactions"), "{card}");
}

#[test]
fn bad_movielens_files_are_refused_by_name_and_line() {
    let twice = format!("{MOVIES}1,Toy Story again,Comedy\r\n");
    let ratings = ratings();
    for (movies, ratings, says) in [
        (twice.as_str(), ratings.as_str(), "movies.csv: line 7"),
        ("movieId,name\n1,a\n", &ratings, "a column `title`"),
        ("movieId,title,genres\n1,a\n", &ratings, "line 2"),
        (MOVIES, "userId,movieId,rating,timestamp\n1,1,9,1\n", "a rating from 0 to 5"),
        (MOVIES, "userId,movieId,rating,timestamp\n1,1,good,1\n", "line 2"),
        (MOVIES, "userId,movieId,rating,timestamp\n1,1,4,1\n", "users and items with 5"),
        (MOVIES, "userId,movieId,rating,timestamp\n", "at least one interaction"),
        (MOVIES, "userId,movieId,rating,timestamp\n\"1,1,4,1\n", "columns"),
        (MOVIES, &ratings.replace("rating,", "points,"), "a column `rating`"),
    ] {
        let source = movielens(movies, ratings);
        let out = Folder::new("refused");
        let error = prepare_movielens(source.path(), out.path(), None).unwrap_err().to_string();
        assert!(error.contains(says), "{error}, expected {says}");
    }
    let error = prepare_movielens(Path::new("nowhere"), Path::new("out"), None).unwrap_err();
    assert!(error.to_string().contains("movies.csv"), "{error}");
}

fn recbole(items: &str, interactions: &str) -> Folder {
    let folder = Folder::new("recbole");
    folder.write("data.item", items);
    folder.write("data.inter", interactions);
    std::fs::create_dir(folder.path().join("images")).unwrap();
    folder.write("images/a.png", b"picture");
    folder
}

const ITEMS: &str = "item_id:token\ttitle:token_seq\timage:token\r\na\tA \"small\" lamp\ta.png\r\n\
                     b\t\tgone.png\r\nc\tC\t\r\n";

#[test]
fn recbole_files_keep_items_without_picture_or_title_and_one_user_is_enough() {
    let ratings = "user_id:token\titem_id:token\trating:float\ttimestamp:float\r\n\
                   u\ta\t5\t1\r\nu\tb\t1\t2\r\nu\tc\t4\t3\r\n";
    let source = recbole(ITEMS, ratings);
    let out = Folder::new("prepared");
    let prepared = prepare_recbole(source.path(), out.path(), None).unwrap();
    assert_eq!((prepared.users, prepared.items, prepared.interactions), (1, 3, 3));
    assert_eq!(prepared.left_out, 0);
    assert_eq!((prepared.pictures, prepared.missing_pictures), (1, 1));
    let data = Dataset::read(out.path()).unwrap();
    assert_eq!(data.behaviours, ["like", "dislike"]);
    let items = data.catalogue.items();
    assert_eq!(
        (items[0].title.as_str(), items[0].image.as_deref()),
        ("A \"small\" lamp", Some("a.png"))
    );
    assert_eq!((items[1].title.as_str(), items[1].image.as_deref()), ("", None));
    assert_eq!(std::fs::read(out.path().join("images/a.png")).unwrap(), b"picture");

    // Behaviours of the file's own come before ratings.
    let own = "user_id:token\titem_id:token\trating:float\tbehaviour:token\nu\ta\t5\tview\n";
    let source = recbole(ITEMS, own);
    let prepared = prepare_recbole(source.path(), out.path(), None).unwrap();
    assert_eq!(prepared.behaviours, ["view"]);
}

#[test]
fn bad_recbole_files_are_refused_by_name_and_line() {
    let interactions = "user_id:token\titem_id:token\nu\ta\n";
    for (items, interactions, says) in [
        (&*format!("{ITEMS}a\tagain\t\r\n"), interactions, "data.item: line 5"),
        ("item_id:token\timage:token\na\t../a.png\n", interactions, "`image`"),
        (&*format!("item_id:token\ttitle:token\na\t{}\n", "x".repeat(5000)), interactions, "title"),
        (ITEMS, "user_id:token\titem_id:token\nu\t\n", "line 2"),
        (ITEMS, "user\titem\nu\ta\n", "RecBole columns"),
    ] {
        let source = recbole(items, interactions);
        let out = Folder::new("refused");
        let error = prepare_recbole(source.path(), out.path(), None).unwrap_err().to_string();
        assert!(error.contains(says), "{error}, expected {says}");
    }
}

#[test]
fn only_what_a_command_wrote_itself_is_written_over() {
    let source = movielens(MOVIES, &ratings());
    let out = Folder::new("prepare-again");
    for _ in 0..2 {
        prepare_movielens(source.path(), out.path(), Some(2)).unwrap();
    }
    let error = prepare_shop(out.path(), 3, 1).unwrap_err().to_string();
    assert!(error.contains("interactions.inter") && error.contains("empty folder"), "{error}");
    let own = Folder::new("prepare-notes");
    own.write("README.md", "my notes");
    let error = prepare_movielens(source.path(), own.path(), None).unwrap_err().to_string();
    assert!(error.contains("README.md"), "{error}");
    assert_eq!(std::fs::read(own.path().join("README.md")).unwrap(), b"my notes");
    let source = recbole(ITEMS, "user_id:token\titem_id:token\nu\ta\n");
    let error = prepare_recbole(source.path(), source.path(), None).unwrap_err().to_string();
    assert!(error.contains("another folder than the source's"), "{error}");
}

/// The program in an address space of 1 GiB.
#[test]
#[cfg(target_os = "linux")]
fn a_hundred_thousand_items_prepare_in_bounded_memory() {
    let folder = Folder::new("large");
    let mut items = "item_id:token\ttitle:token_seq\tdescription:token_seq\n".to_string();
    for item in 0..100_000 {
        items += &format!("i{item}\tThing number {item}\tA thing. It has the number {item}.\n");
    }
    folder.write("large.item", items);
    let mut interactions =
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n".to_string();
    for event in 0..200_000_u64 {
        interactions += &format!("u{}\ti{}\t4\t{event}\n", event % 5000, event * 7919 % 100_000);
    }
    folder.write("large.inter", interactions);
    // Cargo puts the program beside the folder of the test programs.
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("tributary");
    let out = folder.path().join("out");
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 1048576; exec \"$0\" prepare recbole \"$1\" --out \"$2\" --json"])
        .args([&program, folder.path(), &out])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["items"], &json["interactions"]), (&100_000.into(), &200_000.into()));
}

/// What the field calls ML-100K: 610 users, 3,650 films, 90,274 ratings.
#[test]
fn the_real_movielens_has_the_known_size() {
    let Some(source) = shared().map(|shared| shared.join("data/ml-latest-small")) else { return };
    let out = Folder::new("ml-latest-small");
    let prepared = prepare_movielens(&source, out.path(), None).unwrap();
    assert_eq!((prepared.users, prepared.items, prepared.interactions), (610, 3650, 90_274));
    assert_eq!(prepared.missing_pictures, 0);
    assert!(prepared.pictures > 1000, "{}", prepared.pictures);
    let data = Dataset::read(out.path()).unwrap();
    let title = |id: &str| {
        let index = data.catalogue.index_of(&id.into()).unwrap();
        data.catalogue.items()[index as usize].title.clone()
    };
    assert_eq!(title("1"), "Toy Story (1995)");
    assert_eq!(title("29"), "The City of Lost Children (1995)");
    assert_eq!(title("47"), "Seven (1995)");
    assert_eq!(title("57274"), "[REC] (2007)");
}
