from dassl.inference.stream import find_images


def test_what_systems_put_into_a_folder_is_left_out(tmp_path):
    for name in ("a/1.png", "a/@eaDir/1.png", "__MACOSX/2.png", "#recycle/3.jpg", ".trash/4.png", "._5.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(find_images([str(tmp_path)])) == [str(tmp_path / "a" / "1.png")]


def test_a_name_that_no_system_allows_is_left_to_the_reader():
    places = ["x" * 5000, "null\0byte.png", "fine.png"]
    assert list(find_images(places)) == places
