from towline.cli import main

main()
