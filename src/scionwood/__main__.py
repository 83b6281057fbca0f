from scionwood.cli import main

main()
