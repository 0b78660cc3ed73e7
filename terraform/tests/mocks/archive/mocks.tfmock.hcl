# Stands for the hash of whatever is in functions/.

mock_data "archive_file" {
  defaults = {
    output_sha256 = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
  }
}
