from coldstart import main

main()
